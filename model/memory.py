"""What a rank will need, before anything is loaded: weights, keys and values, and room to work.

Which parameters a rank holds follows DeepSpeed's AutoTP: q, k, v, gate and up are split along their outputs, o and down
along their inputs, embedding and norms are whole. The head is the embedding as long as nothing is split; from degree 2
on it is a copy of its own, split along its input.
"""

from dataclasses import dataclass
from typing import Final

from model.capacity import bytes_per_block, num_blocks
from model.checkpoint import ModelShape, shape_of, tensor_shapes
from model.config import CONTEXT_TOKENS, SIZES, Dtype, EngineConfig, Quantization, Size
from model.errors import CheckpointError

_SPLIT: Final = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "gate_proj": 0, "up_proj": 0, "o_proj": 1, "down_proj": 1}
_HEAD: Final = "lm_head.weight"
_ENDS: Final = ("model.embed_tokens.weight", _HEAD)
_GRAIN: Final = 64  # AutoTP splits widths other than the attention's in grains of 64 (deepspeed 0.19, tp_shard.py)
_INT4_GROUP: Final = 32  # inputs that share a bf16 scale
_PROCESS_BYTES: Final = 480_000_000  # Python, torch, transformers, tokenizer on CPU (measured, docs/verified.md)
_SCORED_ROWS: Final = 8  # rows that log-probabilities are taken of at a time (model/logprobs.py)
_SCORED_BYTES: Final = 100  # and what they take for each of the vocabulary, sorting included (measured)
_GB: Final = 1e9  # as devices are sold and as the published table counts


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the fullest rank, rank 0."""

    weight_bytes: int  # all that stays: matrices with their scales, norms, rotation tables
    kv_bytes: int
    workspace_bytes: int  # the process itself and the largest step

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


def stored_bytes(name: str, part: tuple[int, ...], dtype: Dtype, quantization: Quantization | None) -> int:
    """Bytes of a rank's part of a parameter, scales included.

    Norms are fp32. With a quantization the linears follow it, while embedding and head are int8, since what is shown is
    chosen by them. int8 has an fp32 scale for each output, int4 a bf16 scale for each 32 inputs of an output.
    """
    if len(part) == 1:
        return 4 * part[0]
    rows, width = part
    if quantization is None:
        return rows * width * dtype.num_bytes
    if quantization is Quantization.INT8 or name in _ENDS:
        return rows * width + 4 * rows
    return rows * width // 2 + 2 * rows * width // _INT4_GROUP


def estimate(shape: ModelShape, degree: int, config: EngineConfig) -> MemoryEstimate:
    """What one rank needs; raises `CheckpointError` for a degree or a `kv_memory_gb` that cannot be."""
    parts = rank_shapes(shape, degree).items()
    weights = sum(stored_bytes(name, part, config.dtype, config.quantization) for name, part in parts)
    rotation = 4 * CONTEXT_TOKENS * shape.head_dim  # cosines and sines [positions, D / 2], fp32
    kv = num_blocks(shape, degree, config) * bytes_per_block(shape, degree, config.dtype)
    return MemoryEstimate(weights + rotation, kv, _PROCESS_BYTES + _step_bytes(shape, degree, config.max_step_tokens))


def _step_bytes(shape: ModelShape, degree: int, tokens: int) -> int:
    """The largest step: every token of it has logits, as where a prompt is scored. Activations are fp32."""
    heads = (shape.attention_heads + 2 * shape.kv_heads) * shape.head_dim // degree  # q, k and v
    widest = 3 * shape.hidden + heads + 2 * shape.intermediate // degree  # with gate and up
    scored = min(tokens, _SCORED_ROWS) * _SCORED_BYTES * shape.vocabulary
    return 4 * tokens * (shape.vocabulary + widest) + scored


_PRECISIONS: Final = {"bf16": None, "int8": Quantization.INT8, "int4": Quantization.INT4}


def table() -> str:
    """Needs of the real sizes by precision, with a pool for 8,192 tokens of keys and values in bf16, as Markdown."""
    weights, each = (" | ".join(f"{what} {name}" for name in _PRECISIONS) for what in ("weights", "each rank"))
    lines = [f"| size | degree | {weights} | KV | workspace | {each} |", "|---" * (4 + 2 * len(_PRECISIONS)) + "|"]
    lines += [_row(size, degree) for size in SIZES for degree in degrees(shape_of(size))]
    return "\n".join(lines)


def _row(size: Size, degree: int) -> str:
    settings = (EngineConfig(dtype=Dtype.BF16, quantization=q, kv_tokens=CONTEXT_TOKENS) for q in _PRECISIONS.values())
    needs = [estimate(shape_of(size), degree, config) for config in settings]
    weights, totals = [need.weight_bytes for need in needs], [need.total_bytes for need in needs]
    cells = [*weights, needs[0].kv_bytes, needs[0].workspace_bytes, *totals]
    return f"| {size} | {degree} | " + " | ".join(f"{cell / _GB:.1f} GB" for cell in cells) + " |"


if __name__ == "__main__":
    print(table())
