"""Which tokens may not come next: stop ids before `min_tokens`, and what a guide does not allow."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from model.errors import Code, Fault, InvalidRequestError
from model.sampling import Ask, Matcher, SamplingState

# R rows of the step, V vocabulary, G guided rows, W words of 32 bits

_NEVER: Final = float("-inf")


@dataclass(slots=True)
class Masked:
    """What was found while masks were made: faults by index of the ask."""

    rows: list[int] = field(default_factory=list)  # [G]
    masks: list[Tensor] = field(default_factory=list)  # [G] of [W] int32
    faults: dict[int, Fault] = field(default_factory=dict)


def mask_logits(logits: Tensor, asks: Sequence[Ask]) -> dict[int, Fault]:
    """Set what is not allowed to -inf in logits [R, V], in place; faults of guides by index of the ask.

    A guided row is taken as if its drafts so far were confirmed. Rows behind a guess that the guide refuses are left
    alone, since the token sampled before them differs from that guess.
    """
    found = Masked()
    banned: list[tuple[int, int]] = []  # row and stop id
    row = 0
    for index, ask in enumerate(asks):
        if ask.state.matcher is not None:
            _guide(found, index, ask, ask.state.matcher, row, -(-logits.size(-1) // 32))
        else:
            banned += [
                (row + ahead, stop)
                for ahead in range(ask.num_rows)
                if ask.state.bans_stops(ahead)
                for stop in ask.state.stop_ids
            ]
        row += ask.num_rows
    if banned:
        at = torch.tensor(banned, device=logits.device).unbind(-1)
        logits[at] = _NEVER
    if found.rows:
        _apply(logits, found)
    return found.faults


def _guide(found: Masked, index: int, ask: Ask, matcher: Matcher, row: int, num_words: int) -> None:
    """Masks for the rows of one ask, walking along its draft and back."""
    accepted = 0
    try:
        for ahead in range(ask.num_rows):
            mask = torch.zeros(num_words, dtype=torch.int32)
            matcher.fill(mask)
            if not bool(mask.any()):
                found.faults.update({index: _dead_end()} if ahead == 0 else {})
                break
            found.rows.append(row + ahead)
            found.masks.append(_without_stops(mask, ask.state) if ask.state.bans_stops(ahead) else mask)
            if ahead == len(ask.draft) or not matcher.accept(ask.draft[ahead]):
                break
            accepted += 1
            if matcher.done:
                break
    except InvalidRequestError as error:
        found.faults[index] = error.fault
    matcher.rollback(accepted)


def _without_stops(mask: Tensor, state: SamplingState) -> Tensor:
    """The mask [W] without stop ids; with them if nothing else may follow, since a complete answer cannot grow."""
    fewer = mask.clone()
    for stop in state.stop_ids:
        bit = 1 << (stop % 32)
        fewer[stop // 32] &= ~(bit - (1 << 32) if bit == 1 << 31 else bit)
    return fewer if bool(fewer.any()) else mask


def _apply(logits: Tensor, found: Masked) -> None:
    rows = torch.tensor(found.rows, device=logits.device)  # [G]
    words = torch.stack(found.masks).to(logits.device)  # [G, W]
    bits = words.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32, device=logits.device)  # [G, W, 32]
    allowed = (bits & 1).bool().flatten(1)[:, : logits.size(-1)]  # [G, V]
    logits[rows] = logits[rows].masked_fill(~allowed, _NEVER)


def _dead_end() -> Fault:
    message = "guide: allows no token that could follow; check it for rules that never end"
    return Fault(Code.INVALID_REQUEST, message, "guide_dead_end", "guide")
