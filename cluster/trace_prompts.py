"""Token ids for a request of a trace: equal blocks become equal text, other blocks other text. Pure."""

from typing import Final

from cluster.trace import TraceRequest
from model.chance import uniform

_FIRST_ID, _LAST_ID = 364, 1700  # ordinary words of the embedded family
_BOS_ID: Final = 2
_OWN: Final = 1 << 40  # names of blocks that no trace uses


def token_ids(number: int, request: TraceRequest) -> tuple[int, ...]:
    """As many as its prompt is long; what no block covers is this request's own."""
    ids = [_BOS_ID]
    for block in request.blocks:
        ids += _words(block, request.block_tokens)
    ids += _words(_OWN + number, max(0, request.prompt_tokens - len(ids)))
    return tuple(ids[: max(2, request.prompt_tokens)])


def _words(seed: int, count: int) -> list[int]:
    return [_FIRST_ID + int(uniform(seed, place) * (_LAST_ID - _FIRST_ID)) for place in range(count)]
