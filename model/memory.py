"""What a rank will need, before anything is loaded: weights, keys and values, and room to work.

Which parameters a rank holds follows DeepSpeed's AutoTP: q, k, v, gate and up are split along their outputs, o and down
along their inputs, embedding and norms are whole. The head is the embedding as long as nothing is split; from degree 2
on it is a copy of its own, split along its input.
"""

from dataclasses import dataclass
from math import prod
from typing import Final

from model.checkpoint import Checkpoint, ModelShape, shape_of, tensor_shapes
from model.config import SIZES, Dtype, Size
from model.errors import CheckpointError

_SPLIT: Final = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "gate_proj": 0, "up_proj": 0, "o_proj": 1, "down_proj": 1}
_HEAD: Final = "lm_head.weight"
_GRAIN: Final = 64  # AutoTP splits widths other than the attention's in grains of 64 (deepspeed 0.19, tp_shard.py)
_STEP_TOKENS: Final = 512  # EngineConfig.max_step_tokens; a larger step needs more room
_GB: Final = 1e9  # as devices are sold and as the published table counts


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the fullest rank, rank 0."""

    weight_bytes: int
    kv_bytes: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        """All three together."""
        return self.weight_bytes + self.kv_bytes + self.workspace_bytes


def degrees(shape: ModelShape) -> tuple[int, ...]:
    """Tensor-parallel degrees that copy no KV head."""
    return tuple(degree for degree in range(1, shape.kv_heads + 1) if shape.kv_heads % degree == 0)


def split_dimension(name: str) -> int | None:
    """The dimension along which a parameter is split over the ranks; None: whole on every rank."""
    if name == _HEAD:
        return 1
    return _SPLIT.get(name.removesuffix(".weight").rpartition(".")[2])


def rank_shapes(shape: ModelShape, degree: int, rank: int = 0) -> dict[str, tuple[int, ...]]:
    """Every parameter that one rank holds, the head included where it is a copy; raises `CheckpointError`."""
    if degree not in degrees(shape):
        allowed = ", ".join(map(str, degrees(shape)))
        raise CheckpointError(
            f"tensor_parallel: {degree} does not divide the {shape.kv_heads} KV heads; choose one of {allowed}"
        )
    whole = tensor_shapes(shape)
    if degree > 1:
        whole[_HEAD] = (shape.vocabulary, shape.hidden)
    return {name: _part(name, full, degree, rank) for name, full in whole.items()}


def _part(name: str, full: tuple[int, ...], degree: int, rank: int) -> tuple[int, ...]:
    dimension = split_dimension(name)
    if dimension is None or degree == 1:
        return full
    # Heads are never cut, and the degree divides them; other widths go in grains, the first ranks get the odd ones.
    grain = full[dimension] // degree if "self_attn" in name else min(_GRAIN, full[dimension])
    grains, rest = divmod(full[dimension], grain)
    width = grain * (grains // degree + (rank < grains % degree)) + (rest if rank == degree - 1 else 0)
    return (*full[:dimension], width, *full[dimension + 1 :])


def estimate(shape: ModelShape, degree: int, weight_bits: int, kv_dtype_bytes: int, kv_tokens: int) -> MemoryEstimate:
    """What one rank needs; below 16 `weight_bits` only the linears shrink, embedding, norms and head stay in 16.

    Keys and values are counted for every layer at full length, as the borrowed engine's pages may need them; workspace
    is one step's logits in fp32, before and after the soft cap, and the widest activations.
    """
    weight_bits_total = 0.0
    for name, part in rank_shapes(shape, degree).items():
        linear = split_dimension(name) is not None and name != _HEAD
        weight_bits_total += prod(part) * (_stored_bits(weight_bits) if linear else max(16, weight_bits))
    kv_bytes = kv_tokens * kv_bytes_per_token(shape, degree, kv_dtype_bytes)
    logits = 2 * 4 * shape.vocabulary
    activations = kv_dtype_bytes * (3 * shape.intermediate // degree + 4 * shape.hidden)
    return MemoryEstimate(int(weight_bits_total / 8), kv_bytes, _STEP_TOKENS * (logits + activations))


def kv_bytes_per_token(shape: ModelShape, degree: int, kv_dtype_bytes: int) -> int:
    """Bytes of one token's keys and values on a rank."""
    return 2 * shape.layers * (shape.kv_heads // degree) * shape.head_dim * kv_dtype_bytes


def _stored_bits(weight_bits: int) -> float:
    """4-bit weights carry a 16-bit scale and zero point for each group of 128."""
    return weight_bits + 32 / 128 if weight_bits == 4 else weight_bits


def check_fits(what: str, need: MemoryEstimate, available_bytes: int, remedies: tuple[str, ...] = ()) -> None:
    """Raise `CheckpointError` with the remedies, best first, when the estimate is above what a rank may take."""
    if need.total_bytes > available_bytes:
        raise CheckpointError(
            f"{what} needs {need.total_bytes / _GB:.1f} GB on each rank ({need.weight_bytes / _GB:.1f} weights, "
            f"{need.kv_bytes / _GB:.1f} keys and values, {need.workspace_bytes / _GB:.1f} workspace), "
            f"{available_bytes / _GB:.1f} GB are there: " + ("; ".join(remedies) or "use a larger device")
        )


def check_memory(
    checkpoint: Checkpoint, size: Size, degree: int, dtype: Dtype, kv_tokens: int, available_bytes: int
) -> MemoryEstimate:
    """The estimate of a checkpoint about to be loaded; raises `CheckpointError` when it cannot fit.

    `available_bytes` is what one rank may take: a GPU's free memory, or the host's divided by its ranks.
    """
    shape, kv = checkpoint.shape, dtype.num_bytes
    need = estimate(shape, degree, 8 * dtype.num_bytes, kv, kv_tokens)
    if need.total_bytes > available_bytes:
        what = f"{size} ({checkpoint.name}) in {dtype} at tensor_parallel {degree}"
        remedies = _remedies(shape, degree, dtype, kv_tokens, available_bytes)
        check_fits(what, need, available_bytes, remedies)
    return need


def _remedies(shape: ModelShape, degree: int, dtype: Dtype, kv_tokens: int, available_bytes: int) -> tuple[str, ...]:
    kv, found = dtype.num_bytes, []
    for higher in degrees(shape):
        total = estimate(shape, higher, 8 * kv, kv, kv_tokens).total_bytes
        if higher > degree and total <= available_bytes:
            found.append(f"set tensor_parallel {higher} ({total / _GB:.1f} GB each)")
            break
    if dtype is Dtype.FP32:
        total = estimate(shape, degree, 16, 2, kv_tokens).total_bytes
        if total <= available_bytes:
            found.append(f"set engine.dtype bf16 ({total / _GB:.1f} GB)")
    empty = estimate(shape, degree, 8 * kv, kv, 0).total_bytes
    tokens = (available_bytes - empty) // kv_bytes_per_token(shape, degree, kv)
    if tokens >= 256:  # the least that EngineConfig takes
        found.append(f"lower engine.kv_tokens to {tokens}")
    planned = estimate(shape, degree, 8, kv, kv_tokens).total_bytes
    if not found:
        found.append("use a larger device")
    if planned <= available_bytes:
        found.append(f"int8 weights would fit ({planned / _GB:.1f} GB), but are not loadable yet")
    return tuple(found)


def table() -> str:
    """Needs of the real sizes in bf16 with one full context of keys and values, as Markdown."""
    lines = ["| size | degree | weights | KV of 8,192 tokens | workspace | each rank |", "|---|---|---|---|---|---|"]
    for size in SIZES:
        shape = shape_of(size)
        for degree in degrees(shape):
            need = estimate(shape, degree, 16, 2, 8192)
            parts = (need.weight_bytes, need.kv_bytes, need.workspace_bytes, need.total_bytes)
            lines.append(f"| {size} | {degree} | " + " | ".join(f"{part / _GB:.1f} GB" for part in parts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
