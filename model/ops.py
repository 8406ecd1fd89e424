"""What a step of Gemma 2 computes, as a handful of operations with two implementations.

Rows are tokens: [T, width], fp32, whatever the weights are stored in. Both implementations keep a row's result apart
from its neighbours in meaning; `native` keeps it apart bit for bit.
"""

from typing import Any, Protocol

import torch

from model.batch import Batch
from model.config import Dtype
from model.linear import Kind, Weight


class Ops(Protocol):
    """One rank's arithmetic. T tokens, S sequences, H and K query and KV heads of this rank, D head size."""

    def empty(self, kind: Kind, rows: int, width: int, reduced: bool) -> Weight:
        """A weight to be filled."""

    def fill(self, weight: Weight, first_row: int, part: torch.Tensor) -> None:
        """Store rows [n, width] from `first_row` on; both multiples of 16 but for the last part."""

    def cache(self, blocks: int, kv_heads: int, head_dim: int, dtype: Dtype) -> Any:
        """Keys and values of one layer: `blocks` runs of 16 tokens."""

    def embed(self, ids: torch.Tensor, weight: Weight, normaliser: float) -> torch.Tensor:
        """Rows of the embedding for ids [T], times the normaliser: [T, E]."""

    def linear(self, x: torch.Tensor, weight: Weight) -> torch.Tensor:
        """X [T, width] times the weight's transpose: [T, rows]."""

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Gemma's RMSNorm of each row, by `1 + weight`."""

    def add_norm(self, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> None:
        """Add the norm of x to the residual, in place."""

    def geglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """GeLU (tanh form) of the gate, times up; may write into the gate."""

    def soft_cap(self, x: torch.Tensor, cap: float) -> torch.Tensor:
        """Cap · tanh(x / cap); may write into x."""

    def attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        cache: Any,
        batch: Batch,
        window: int,
        scale: float,
        cap: float,
    ) -> torch.Tensor:
        """Rotate q [T, H·D] and k [T, K·D], write k and v to the cache, and attend: [T, H·D].

        Order: scale, soft cap, mask, softmax. `window` 0 sees all before; else the last `window` positions, the token's
        own included. `rotation`: cosines and sines [T, D / 2].
        """
