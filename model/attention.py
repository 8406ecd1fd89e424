"""Paged attention with Gemma 2's soft-cap, in place of the library's.

transformers 5.23's `paged|eager` takes `softcap` among its other arguments and drops it. Short prompts hide that, since
their scores are small; answers then differ from the oracle's, and nothing fails.
"""

from itertools import pairwise
from typing import Any, Final

import torch
from torch import nn
from transformers import AttentionInterface

NAME: Final = "paged|eager"  # continuous batching accepts no name of our own
_PACKED_SCORES: Final = 2**18  # scores up to which all sequences at once are faster than one by one


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over packed sequences, in the order scale, soft-cap, mask, softmax.

    `query` [1, H, T, D] and this step's `key` and `value` [1, K, T, D], H and K being this rank's heads; the cache adds
    the S earlier positions. The mask [1, 1, T, S + T] keeps sequences apart and holds the window. Returns [1, T, H, D].
    """
    key, value = kwargs["cache"].update(
        key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs
    )  # [1, K, S + T, D]
    if query.shape[1] * query.shape[2] * key.shape[2] <= _PACKED_SCORES:
        return _mix(query, key, value, attention_mask, scaling, softcap), None
    # Packed, every sequence pays for the keys of all others; the mask only throws them away.
    q_ends, k_ends = kwargs["cu_seq_lens_q"].tolist(), kwargs["cu_seq_lens_k"].tolist()
    parts = [
        _mix(
            query[:, :, q_from:q_to],
            key[:, :, k_from:k_to],
            value[:, :, k_from:k_to],
            None if attention_mask is None else attention_mask[:, :, q_from:q_to, k_from:k_to],
            scaling,
            softcap,
        )
        for (q_from, q_to), (k_from, k_to) in zip(pairwise(q_ends), pairwise(k_ends), strict=True)
    ]
    return torch.cat(parts, dim=1), None


def _mix(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
) -> torch.Tensor:
    """`query` [1, H, T, D] over `key` and `value` [1, K, S, D] under a mask [1, 1, T, S]: [1, T, H, D]."""
    heads, kv_heads, tokens = query.shape[1], key.shape[1], query.shape[2]
    # The queries of one KV head go together, so that keys and values are not repeated: [1, K, H / K * T, D].
    grouped = query.reshape(1, kv_heads, heads // kv_heads * tokens, -1)
    scores = torch.matmul(grouped, key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(1, heads, tokens, -1)
    if mask is not None:
        scores = scores + mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.matmul(weights.view(1, kv_heads, heads // kv_heads * tokens, -1), value)
    return mixed.view(1, heads, tokens, -1).transpose(1, 2).contiguous()


def use_soft_cap() -> None:
    """Let every model of this process attend by `attend` when it is batched continuously."""
    AttentionInterface.register(NAME, attend)
