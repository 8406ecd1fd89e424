"""Keys and values on paper: how large a block is, how many there are, how many requests they carry at once.

A block id stands for the keys and values of 16 tokens of either all window layers or all global layers. The n-th
window layer and the n-th global layer keep their blocks in one tensor, so a block is as large as the more numerous
kind needs, and a token takes a place in two blocks, one of each kind.
"""

from dataclasses import dataclass
from typing import Final

from model.checkpoint import ModelShape
from model.config import CONTEXT_TOKENS, Dtype, EngineConfig
from model.errors import CheckpointError

BLOCK_TOKENS: Final = 16
"""Tokens of one block; the runner's, which a test compares."""
SHORT_TOKENS: Final = 1000
"""A request of ordinary length, for reports."""
LEAST_TOKENS: Final = 256
"""As for `EngineConfig.kv_tokens`: one request of a few blocks."""
_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine found room for at its start."""

    weight_bytes: int  # on rank 0
    kv_bytes: int  # on rank 0
    kv_blocks: int  # the same ids on every rank
    full_requests: int  # requests of CONTEXT_TOKENS tokens whose keys and values fit at once
    short_requests: int  # the same of SHORT_TOKENS tokens

    def fields(self) -> dict[str, float]:
        """As a line of the log says it."""
        return {
            "weights_gb": round(self.weight_bytes / _GB, 3),
            "kv_gb": round(self.kv_bytes / _GB, 3),
            "kv_blocks": self.kv_blocks,
            f"requests_of_{CONTEXT_TOKENS}": self.full_requests,
            f"requests_of_{SHORT_TOKENS}": self.short_requests,
        }


def bytes_per_block(shape: ModelShape, degree: int, dtype: Dtype) -> int:
    """Bytes of one block on a rank; window layers are the even ones, so never fewer than the global ones."""
    window_layers = -(-shape.layers // 2)
    return window_layers * 2 * BLOCK_TOKENS * (shape.kv_heads // degree) * shape.head_dim * dtype.num_bytes


def num_blocks(shape: ModelShape, degree: int, config: EngineConfig) -> int:
    """Blocks of the pool: for `kv_tokens`, or as many as `kv_memory_gb` on each rank holds.

    Raises `CheckpointError` where the memory is too little for one request of a few blocks.
    """
    if config.kv_memory_gb is None:
        return 2 * -(-config.kv_tokens // BLOCK_TOKENS)
    pair = 2 * bytes_per_block(shape, degree, config.dtype)
    tokens = int(config.kv_memory_gb * _GB) // pair * BLOCK_TOKENS
    if tokens < LEAST_TOKENS:
        least = LEAST_TOKENS // BLOCK_TOKENS * pair / _GB
        raise CheckpointError(
            f"engine.kv_memory_gb: {config.kv_memory_gb:g} GB hold the keys and values of {tokens} tokens on each "
            f"rank, {LEAST_TOKENS} are the least; set {_rounded_up(least):g} or more"
        )
    return 2 * tokens // BLOCK_TOKENS


def _rounded_up(gb: float) -> float:
    """To whole MB, which is enough whatever the rounding of a decimal does."""
    return (int(gb * 1000) + 1) / 1000
