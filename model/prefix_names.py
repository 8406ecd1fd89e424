"""A request -> the names of its prompt's blocks, the same in every process, without an engine."""

from model.capacity import BLOCK_TOKENS
from model.marks import name_of
from model.prefix_cache import first_link, next_link
from model.request import GenerationRequest


def names_of(request: GenerationRequest) -> tuple[int, ...]:
    """Short names of the blocks that a cache could spare it, from the first on; 1.6 µs each (2026-11-24).

    At least one token is left to compute. A prompt that is to be scored gets nothing from a cache.
    """
    if request.sampling.prompt_logprobs is not None:
        return ()
    link, names, ids = first_link(request.salt), [], request.prompt_token_ids
    for start in range(0, (len(ids) - 1) // BLOCK_TOKENS * BLOCK_TOKENS, BLOCK_TOKENS):
        link = next_link(link, ids[start : start + BLOCK_TOKENS])
        names.append(name_of(link))
    return tuple(names)
