"""Greedy rows inside a batch of sampled ones, for transformers' continuous batching.

Its samplers know temperature, top-k and top-p per request, but no argmax: a temperature of 0 divides by zero, and
top-k 1 keeps every token that ties for first place, which happens in bf16.
"""

from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingTopKLogitsWarper


class GreedyTopK(ContinuousBatchingTopKLogitsWarper):
    """Top-k per request; k = 1 keeps exactly the first of the best tokens."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`scores` [B, V] and k per row [B] (int32); filtered scores [B, V]."""
        greedy = tensor_arg[: scores.size(0)] == 1  # [B]
        best = scores.argmax(dim=-1, keepdim=True)  # [B, 1]
        kept: torch.Tensor = super().__call__(scores, tensor_arg)
        only = torch.full_like(scores, self.filter_value).scatter(-1, best, 0.0)  # [B, V]
        return torch.where(greedy.unsqueeze(-1), only, kept)


def use_greedy(processors: Any) -> None:
    """Replace the manager's top-k processor; it must not have built its batch processor yet."""
    for index, processor in enumerate(processors.logits_processor):
        if type(processor) is ContinuousBatchingTopKLogitsWarper:
            processors.logits_processor[index] = GreedyTopK(processor)
            return
    raise RuntimeError("transformers built no per-request top-k; its continuous batching has changed")
