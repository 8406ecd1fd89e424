"""Draws a token from each row: temperature, top-k, top-p and min-p, then one random number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from model.order import keys, masses
from model.request import SamplingParams

# N rows, V vocabulary, M best tokens that are looked at first, A rows that ask for top-k or top-p

_NARROW: Final = 1024
"""Best tokens that are sorted first: nearly always they hold the mass that top-p wants."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row draws: its request's settings, and its random number in [0, 1)."""

    params: SamplingParams
    chance: float


def draw(logits: Tensor, peaks: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Token ids [N] drawn from logits [N, V], whose largest are `peaks` [N, 1].

    Each row depends on its own logits and draw only, bit by bit. Of tokens that tie for the last place in top-k or
    top-p the first are kept. Rows that ask for no filter are not sorted.
    """
    params = [each.params for each in draws]
    temperature = _column([each.temperature for each in params], logits)
    scaled = (logits - peaks) / temperature  # [N, V], 0 at most: no quotient overflows
    mass = masses(scaled)  # [N, V]
    asking = [row for row, each in enumerate(params) if _top_k(each, logits) < logits.size(-1) or each.top_p < 1]
    if asking:
        k = torch.tensor([_top_k(params[row], logits) for row in asking], device=logits.device)
        p = torch.tensor([params[row].top_p for row in asking], device=logits.device, dtype=torch.float64)
        rows = torch.tensor(asking, device=logits.device)
        mass[rows] = _keep_top(scaled[rows], mass[rows], k.unsqueeze(-1), p.unsqueeze(-1))
    if any(each.min_p for each in params):
        mass = mass.masked_fill(scaled.exp() < _column([each.min_p for each in params], logits), 0)
    return _pick(mass, torch.tensor([each.chance for each in draws], device=logits.device, dtype=torch.float64))


def _pick(mass: Tensor, chance: Tensor) -> Tensor:
    """Token ids [N]: where the running sum of mass [N, V] passes the share `chance` [N] of its total."""
    reached = mass.cumsum(-1)  # [N, V]
    total = reached[:, -1]  # [N]
    target = torch.minimum((chance * total.double()).long(), total - 1)  # [N]
    return torch.searchsorted(reached, target.unsqueeze(-1), right=True).squeeze(-1)


def _keep_top(scaled: Tensor, mass: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """Mass [A, V] without what is outside of top-k, and of top-p among those."""
    order = keys(scaled)  # [A, V]
    width = min(_NARROW, order.size(-1))
    least, settled = _least_kept(order, mass, k, p, width)
    if width < order.size(-1) and not bool(settled.all()):
        rows = (~settled).nonzero().squeeze(-1)
        least[rows] = _least_kept(order[rows], mass[rows], k[rows], p[rows], order.size(-1))[0]
    return mass.masked_fill(order < least, 0)


def _least_kept(order: Tensor, mass: Tensor, k: Tensor, p: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Key of the last token kept [A, 1], and whether the `width` best were enough to tell [A]."""
    best = order.topk(width, dim=-1)  # [A, M], in order
    reached = mass.gather(-1, best.indices).cumsum(-1)  # [A, M]
    inside = k <= width  # [A, 1]
    of_k = reached.gather(-1, (k - 1).clamp(max=width - 1))
    total = torch.where(inside, of_k, mass.sum(-1, keepdim=True))  # [A, 1], of the k best
    wanted = p * total.double()  # [A, 1]
    of_p = (reached.double() < wanted).sum(-1, keepdim=True) + 1  # [A, 1] tokens whose mass is p at least
    kept = torch.where(p < 1, torch.minimum(of_p, k), k)  # [A, 1]
    whole = k >= order.size(-1)  # no top-k: the total is right although not all of it was sorted
    settled = inside | (whole & (p < 1) & (of_p <= width))  # [A, 1]
    return best.values.gather(-1, (kept - 1).clamp(max=width - 1)), settled.squeeze(-1)


def _top_k(params: SamplingParams, logits: Tensor) -> int:
    size = logits.size(-1)
    return size if params.top_k is None or params.top_k <= 0 else min(params.top_k, size)


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32).unsqueeze(-1)  # [N, 1]
