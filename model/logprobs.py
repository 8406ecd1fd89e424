"""Log-probabilities of the model's own distribution, the same bits in any company."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from model.events import Logprob
from model.order import UNIT, keys, masses

# N rows, V vocabulary

_CHUNK: Final = 8
"""Rows at a time: with 256,000 tokens each, sorting keys take 16 MB a chunk."""


def score(logits: Tensor, token_ids: Sequence[int], top_n: Sequence[int]) -> list[Logprob]:
    """Of each row of logits [N, V]: its token's log-probability and that of its `top_n` likeliest, best first.

    Within 1e-6 of `log_softmax` in fp32. Memory beside the logits stays bounded.
    """
    found: list[Logprob] = []
    for start in range(0, len(token_ids), _CHUNK):
        end = start + _CHUNK
        found += _score(logits[start:end], token_ids[start:end], top_n[start:end])
    return found


def prompt_logprobs(logits: Tensor, next_ids: Sequence[int], top_n: int) -> tuple[Logprob, ...]:
    """Of each prompt token from the second on, given logits [N, V] at the token before each."""
    return tuple(score(logits, next_ids, [top_n] * len(next_ids)))


def _score(logits: Tensor, token_ids: Sequence[int], top_n: Sequence[int]) -> list[Logprob]:
    logits = logits.float()
    peaks = logits.amax(-1, keepdim=True)  # [N, 1]
    totals = masses(logits - peaks).sum(-1).tolist()  # [N], exact
    bases = [peak + math.log(total / UNIT) for peak, total in zip(peaks[:, 0].tolist(), totals, strict=True)]
    chosen = logits.gather(-1, torch.tensor(token_ids, device=logits.device).unsqueeze(-1))[:, 0].tolist()
    tops = _tops(logits, min(max(top_n), logits.size(-1)))
    return [
        Logprob(token_id, value - base, tuple((best, other - base) for best, other in top[:wanted]))
        for token_id, value, base, top, wanted in zip(token_ids, chosen, bases, tops, top_n, strict=True)
    ]


def _tops(logits: Tensor, most: int) -> list[list[tuple[int, float]]]:
    """Token ids and logits of the best of each row, best first; of equals the first token is."""
    if most == 0:
        return [[] for _ in range(logits.size(0))]
    ids = keys(logits).topk(most, dim=-1).indices  # [N, most]
    values = logits.gather(-1, ids)
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)]
