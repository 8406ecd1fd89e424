"""Samplers per request for transformers' continuous batching: exact greedy, and no work where nothing is asked.

The library's know temperature, top-k and top-p per request, but no argmax: a temperature of 0 divides by zero, and
top-k 1 keeps every token that ties for first place, which happens in bf16. Each also sorts the whole vocabulary for
every row, asked or not; at 256,000 tokens that costs more than many a layer.
"""

from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingTopKLogitsWarper,
    ContinuousBatchingTopPLogitsWarper,
)


class GreedyTopK(ContinuousBatchingTopKLogitsWarper):
    """Top-k per request; k = 1 keeps exactly the first of the best tokens."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores` [B, V] and k per row [B] (int32); filtered scores [B, V]."""
        k = tensor_arg[: scores.size(0)]
        greedy = k == 1  # [B]
        if bool(((k > 1) & (k < scores.size(-1))).any()):
            kept: torch.Tensor = super().__call__(scores, tensor_arg)
        else:
            kept = scores
        if not bool(greedy.any()):
            return kept
        best = scores.argmax(dim=-1, keepdim=True)  # [B, 1]
        only = torch.full_like(scores, self.filter_value).scatter(-1, best, 0.0)  # [B, V]
        return torch.where(greedy.unsqueeze(-1), only, kept)


class LazyTopP(ContinuousBatchingTopPLogitsWarper):
    """Top-p per request; sorts nothing where every row keeps all tokens."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores` [B, V] and p per row [B] (float32 seen as int32); filtered scores [B, V]."""
        if bool((tensor_arg[: scores.size(0)].view(dtype=torch.float32) >= 1.0).all()):
            return scores
        kept: torch.Tensor = super().__call__(scores, tensor_arg)
        return kept


def use_greedy(processors: Any) -> None:
    """Replace the manager's top-k and top-p; it must not have built its batch processor yet."""
    ours = {ContinuousBatchingTopKLogitsWarper: GreedyTopK, ContinuousBatchingTopPLogitsWarper: LazyTopP}
    found = 0
    for index, processor in enumerate(processors.logits_processor):
        if type(processor) in ours:
            processors.logits_processor[index] = ours[type(processor)](processor)
            found += 1
    if found != len(ours):
        raise RuntimeError("transformers built no per-request top-k and top-p; its continuous batching has changed")
