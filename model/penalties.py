"""What requests add to or take from the logits of single tokens: penalties and biases."""

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from model.sampling import Ask

# R rows of the step, V vocabulary, E tokens to change in all rows


def change_logits(logits: Tensor, asks: Sequence[Ask]) -> None:
    """Apply repetition, frequency and presence penalties and then biases to logits [R, V], in place.

    Each row is taken as if its drafts so far were confirmed. Repetition divides positive logits of tokens in prompt
    or answer and multiplies negative ones (Keskar et al. 2019, CTRL); the other two are OpenAI's.
    """
    _penalise(logits, asks)
    rows, ids, values = array("q"), array("q"), array("f")
    row = 0
    for ask in asks:
        for _ in range(ask.num_rows if ask.state.bias_ids else 0):
            rows.extend(array("q", [row]) * len(ask.state.bias_ids))
            ids.extend(ask.state.bias_ids)
            values.extend(ask.state.bias_values)
            row += 1
        row += 0 if ask.state.bias_ids else ask.num_rows
    if rows:
        at = _tensor(rows, logits), _tensor(ids, logits)
        logits[at] += _tensor(values, logits)


def _penalise(logits: Tensor, asks: Sequence[Ask]) -> None:
    rows, ids, counts = array("q"), array("q"), array("f")
    settings: list[tuple[float, float, float]] = []  # of each row
    for ask in asks:
        params = ask.state.params
        first = len(settings)
        settings += [(params.repetition_penalty, params.frequency_penalty, params.presence_penalty)] * ask.num_rows
        _collect(ask, first, rows, ids, counts)
    if not rows:
        return
    at = _tensor(rows, logits), _tensor(ids, logits)
    repetition, frequency, presence = torch.tensor(settings, device=logits.device)[at[0]].unbind(-1)  # [E] each
    times = _tensor(counts, logits)  # [E]
    values = logits[at]  # [E]
    values = torch.where(values > 0, values / repetition, values * repetition)
    values = values - frequency * times
    logits[at] = values - presence * (times > 0)


def _collect(ask: Ask, first: int, rows: "array[int]", ids: "array[int]", counts: "array[float]") -> None:
    """Add one entry for each row of an ask and each token it has."""
    own = ask.state.counts
    if own is None:
        return
    for ahead in range(ask.num_rows):
        rows.extend(array("q", [first + ahead]) * len(own.ids))
        ids.extend(own.ids)
        counts.extend(own.counts)
        if ahead < len(ask.draft):
            own.add(ask.draft[ahead])
    for token_id in reversed(ask.draft):
        own.remove(token_id)


def _tensor(values: "array[int] | array[float]", like: Tensor) -> Tensor:
    dtype = torch.int64 if values.typecode == "q" else torch.float32
    return torch.frombuffer(values, dtype=dtype).to(like.device)
