"""Logits to tokens for all sequences of a step, drafts included.

Every position of every answer has a random number of its own (model.chance), and every row is computed as if it were
alone, bit by bit. A guess is right exactly if it is the token that would have been drawn in its place. So one seed
gives one text, with drafts or without, in any company, and drafts leave the distribution as it is.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from model.chance import uniform
from model.errors import Code, Fault
from model.events import Logprob
from model.filters import Draw, draw
from model.logprobs import score
from model.masks import mask_logits
from model.penalties import change_logits
from model.sampling import Ask, Sampled

# R rows of the step, V vocabulary

_CHUNK: Final = 4
"""Rows drawn at a time: it bounds memory, and at 256,000 tokens more rows leave the processor's caches."""


@torch.inference_mode()
def sample(logits: Tensor, asks: Sequence[Ask]) -> list[Sampled]:
    """Next tokens of each ask from logits [R, V] (fp32, soft-capped); advances the states.

    Rows come in the order of the asks, `1 + len(draft)` each: row j of an ask is what the model says after the
    confirmed tokens and j guesses. Raises `FloatingPointError` if a row has no finite maximum.
    """
    if logits.size(0) != (wanted := sum(ask.num_rows for ask in asks)):
        raise ValueError(f"{logits.size(0)} rows of logits for asks of {wanted} rows")
    if not asks:
        return []
    edited, faults = _edited(logits, asks)
    chosen = _choose(edited, asks)
    found: list[Sampled] = []
    row = 0
    for index, ask in enumerate(asks):
        found.append(_take(ask, chosen[row : row + ask.num_rows], faults.get(index)))
        row += ask.num_rows
    return _with_logprobs(logits, asks, found)


def _edited(logits: Tensor, asks: Sequence[Ask]) -> tuple[Tensor, dict[int, Fault]]:
    """Logits with penalties, biases and masks, and faults by index of the ask; the tensor itself if none is asked."""
    states = [ask.state for ask in asks]
    if not any(each.counts or each.bias_ids or each.matcher or each.bans_stops(0) for each in states):
        return logits, {}
    edited = logits.clone()
    change_logits(edited, asks)
    return edited, mask_logits(edited, asks)


def _choose(logits: Tensor, asks: Sequence[Ask]) -> list[int]:
    """One token for each row; of equals the greedy one is the first."""
    draws: dict[int, Draw] = {}  # by row
    row = 0
    for ask in asks:
        state = ask.state
        for ahead in range(ask.num_rows):
            if not state.greedy:
                draws[row + ahead] = Draw(state.params, uniform(state.seed, state.num_output + ahead))
        row += ask.num_rows
    chosen = logits.argmax(-1, keepdim=True)  # [R, 1]
    peaks = logits.gather(-1, chosen)  # [R, 1]
    drawn = list(draws)
    for start in range(0, len(drawn), _CHUNK):
        part = drawn[start : start + _CHUNK]
        rows = torch.tensor(part, device=logits.device)
        chosen[rows, 0] = draw(logits[rows], peaks[rows], [draws[each] for each in part])
    if not bool(peaks.isfinite().all()):
        raise FloatingPointError("a row of logits has no finite maximum")
    return [int(token_id) for token_id in chosen[:, 0].tolist()]


def _take(ask: Ask, chosen: Sequence[int], fault: Fault | None) -> Sampled:
    """The tokens of one ask: guesses as long as they are what was chosen, and one token more."""
    if fault is not None:
        return Sampled((), fault=fault)
    taken: list[int] = []
    for ahead, token_id in enumerate(chosen):
        taken.append(token_id)
        if token_id in ask.state.stop_ids or ask.draft[ahead : ahead + 1] != (token_id,):
            break
    try:
        ask.state.advance(taken)
    except ValueError as error:
        return Sampled((), fault=Fault(Code.INTERNAL, str(error), "guide_lost"))
    return Sampled(tuple(taken))


def _with_logprobs(logits: Tensor, asks: Sequence[Ask], found: list[Sampled]) -> list[Sampled]:
    """The same with log-probabilities where they are asked for; only rows whose token was taken are looked at."""
    rows: list[int] = []
    token_ids: list[int] = []
    top_n: list[int] = []
    row = 0
    for ask, sampled in zip(asks, found, strict=True):
        if (wanted := ask.state.params.logprobs) is not None:
            rows += range(row, row + len(sampled.token_ids))
            token_ids += sampled.token_ids
            top_n += [wanted] * len(sampled.token_ids)
        row += ask.num_rows
    if not rows:
        return found
    scores = iter(score(logits[torch.tensor(rows, device=logits.device)], token_ids, top_n))
    return [_scored(ask, sampled, scores) for ask, sampled in zip(asks, found, strict=True)]


def _scored(ask: Ask, sampled: Sampled, scores: Iterator[Logprob]) -> Sampled:
    if ask.state.params.logprobs is None:
        return sampled
    return Sampled(sampled.token_ids, tuple(next(scores) for _ in sampled.token_ids), sampled.fault)
