"""One rank's half of a step: its weights, its keys and values, and the forward pass over them."""

from typing import Any, Final

import torch

from model.batch import Batch
from model.config import Dtype
from model.gemma2 import Gemma2, forward
from model.linear import PANEL
from model.ops import Ops
from model.world import World

BLOCK_TOKENS: Final = PANEL
"""Tokens of one block, for either kind of layer."""


class Runner:
    """Computes batches. One pool of block ids serves both kinds of layers.

    A block id stands for 16 tokens of either all window layers or all global ones; the n-th window layer and the n-th
    global layer keep their blocks in one tensor, since an id is never both at once.
    """

    def __init__(self, model: Gemma2, ops: Ops, num_blocks: int, dtype: Dtype, world: World) -> None:
        self.model = model
        self._ops = ops
        self._world = world
        seen = {True: 0, False: 0}
        tensors: list[Any] = []
        self._caches = []
        for layer in model.layers:
            kind = layer.window > 0
            if seen[kind] == len(tensors):
                tensors.append(ops.cache(num_blocks, model.kv_heads, model.head_dim, dtype))
            self._caches.append(tensors[seen[kind]])
            seen[kind] += 1
        self.kv_bytes = sum(cache.keys.nbytes + cache.values.nbytes for cache in tensors)

    def run(self, batch: Batch) -> torch.Tensor:
        """Logits [R, V] of the rows that want them, the same on every rank."""
        return forward(self.model, self._ops, self._caches, batch, self._reduce)

    def _reduce(self, part: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self._world.sharded:
            from deepspeed import comm

            comm.inference_all_reduce(part)
        return part
