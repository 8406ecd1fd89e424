"""Seconds of a step out of data sheets, for devices that nobody measured. Pure.

The roofline model (S. Williams et al., Communications of the ACM 52(4), 2009) with a share of each roof that is
assumed to be reached, and an all-reduce after attention and after the feed-forward of each layer where a replica has
several ranks.
"""

from functools import lru_cache
from math import prod
from typing import Final

from cluster.speed import Speed
from cluster.speeds.file import Assumed, Device
from model.capacity import BLOCK_TOKENS, LEAST_TOKENS, bytes_per_block
from model.checkpoint import ModelShape, shape_of, tensor_shapes
from model.config import Dtype, EngineConfig, Quantization, Size
from model.memory import MemoryEstimate, estimate, stored_bytes

_SLOT_TOKENS: Final = 1024  # of keys and values that a request is given at least
_ACTIVATION_BYTES: Final = 2
_EXCHANGES: Final = 2  # of a layer
_EMBEDDING: Final = "model.embed_tokens.weight"


def engine_of(quantization: Quantization | None, max_step_tokens: int) -> EngineConfig:
    """As a replica on a GPU is set, keys and values left aside."""
    return EngineConfig(
        dtype=Dtype.BF16, quantization=quantization, max_step_tokens=max_step_tokens, kv_tokens=LEAST_TOKENS
    )


def need_of(size: Size, degree: int, quantization: Quantization | None, assumed: Assumed) -> MemoryEstimate:
    """Of the fullest rank, with the least cache; raises `CheckpointError` for a degree that cannot be."""
    return _need(size, degree, quantization, assumed.max_step_tokens)


@lru_cache(maxsize=1024)
def _need(size: Size, degree: int, quantization: Quantization | None, max_step_tokens: int) -> MemoryEstimate:
    return estimate(shape_of(size), degree, engine_of(quantization, max_step_tokens))


def usable_bytes(device: Device, assumed: Assumed) -> int:
    """Of one device, for a rank."""
    return int(device.memory_bytes.value * assumed.memory_share.value)


def kv_tokens(size: Size, degree: int, quantization: Quantization | None, device: Device, assumed: Assumed) -> int:
    """Tokens of keys and values that a replica has room for; below `LEAST_TOKENS` it does not fit."""
    need = need_of(size, degree, quantization, assumed)
    left = usable_bytes(device, assumed) - need.weight_bytes - need.workspace_bytes
    return max(0, left // (2 * bytes_per_block(shape_of(size), degree, Dtype.BF16)) * BLOCK_TOKENS)


def calculated(
    size: Size, degree: int, quantization: Quantization | None, kind: str, device: Device, assumed: Assumed
) -> Speed | None:
    """A replica's speed; None where it does not fit, or the device's data sheet is not known."""
    room = kv_tokens(size, degree, quantization, device, assumed)
    if room < LEAST_TOKENS or device.read_bytes_per_s is None or device.bf16_flops_per_s is None:
        return None
    shape, weights = shape_of(size), need_of(size, degree, quantization, assumed).weight_bytes
    read = device.read_bytes_per_s.value * assumed.read_share.value
    flops = device.bf16_flops_per_s.value * assumed.flops_share.value * degree
    linear, head = _parameters(shape)
    attention = 4.0 * shape.layers * shape.attention_heads * shape.head_dim  # of a token, for each that it looks at
    passed_s = _exchanged_bytes(shape, degree) / device.link_bytes_per_s.value if device.link_bytes_per_s else 0.0
    waits_s = _EXCHANGES * shape.layers * assumed.exchange_s.value if degree > 1 else 0.0
    return Speed(
        size=size, device=kind, degree=degree, quantization=quantization,
        step_s=_read_bytes(shape, degree, weights, quantization) / read + assumed.overhead_s.value + waits_s,
        prefill_s_per_token=(2.0 * linear + attention * assumed.seen_tokens.value) / flops + passed_s,
        decode_s_per_sequence=2.0 * (linear + head) / flops + passed_s,
        decode_s_per_context_token=_kv_bytes(shape, degree) / read,
        slots=max(1, min(assumed.max_slots, room // _SLOT_TOKENS)),
        kv_tokens=room,
        max_step_tokens=assumed.max_step_tokens,
        cold_start_s=_cold_start(weights, assumed),
    )  # fmt: skip


def _parameters(shape: ModelShape) -> tuple[int, int]:
    """Of all linears, and of the head, which is the embedding."""
    matrices = {name: prod(full) for name, full in tensor_shapes(shape).items() if len(full) == 2}
    head = matrices.pop(_EMBEDDING)
    return sum(matrices.values()), head


def _read_bytes(shape: ModelShape, degree: int, weight_bytes: int, quantization: Quantization | None) -> float:
    """Of a rank's weights, what a step reads: from degree 2 on the embedding is there beside its part of the head."""
    if degree == 1:
        return weight_bytes
    return weight_bytes - stored_bytes(_EMBEDDING, (shape.vocabulary, shape.hidden), Dtype.BF16, quantization)


def _kv_bytes(shape: ModelShape, degree: int) -> float:
    """Of a token on a rank, in all layers; that window layers let go of old ones is left aside."""
    return 2.0 * shape.layers * shape.kv_heads // degree * shape.head_dim * Dtype.BF16.num_bytes


def _exchanged_bytes(shape: ModelShape, degree: int) -> float:
    """Of a token through each rank: a ring sends everything nearly twice."""
    return _EXCHANGES * shape.layers * shape.hidden * _ACTIVATION_BYTES * 2.0 * (degree - 1) / degree


def _cold_start(weight_bytes: int, assumed: Assumed) -> dict[str, float]:
    parts = {name: figure.value for name, figure in assumed.cold_start_s.items()}
    return {**parts, "weights": weight_bytes / assumed.load_bytes_per_s.value}
