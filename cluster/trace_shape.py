"""Makes a trace smaller, faster or shorter, so that it fits what it is played to. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from cluster.trace import TraceRequest
from cluster.traces import from_zero
from model.chance import uniform


def thinned(requests: Sequence[TraceRequest], share: float, seed: int) -> list[TraceRequest]:
    """About that share of the conversations, each with all of its turns; the first that is left comes at 0."""
    return from_zero(each for each in requests if uniform(seed, _conversation(each)) < share)


def thinned_to(requests: Sequence[TraceRequest], count: int, seed: int) -> list[TraceRequest]:
    """Whole conversations until there are so many requests; all of them if there are not."""
    draws = sorted({(uniform(seed, name), name) for name in map(_conversation, requests)})
    sizes: dict[int, int] = {}
    for each in requests:
        sizes[_conversation(each)] = sizes.get(_conversation(each), 0) + 1
    kept: set[int] = set()
    left = count
    for _, name in draws:
        if left <= 0:
            break
        kept.add(name)
        left -= sizes[name]
    return from_zero(each for each in requests if _conversation(each) in kept)


def within(requests: Sequence[TraceRequest], from_s: float, until_s: float) -> list[TraceRequest]:
    """Those that come in that stretch, its beginning at 0."""
    return [replace(each, at_s=each.at_s - from_s) for each in requests if from_s <= each.at_s < until_s]


def sped_up(requests: Sequence[TraceRequest], factor: float) -> list[TraceRequest]:
    """The same requests that many times as fast one after the other."""
    return [replace(each, at_s=each.at_s / factor) for each in requests]


def shrunk(requests: Sequence[TraceRequest], scale: float) -> list[TraceRequest]:
    """Prompts, answers and blocks that much shorter, for a small model; what was shared still is."""
    return [
        replace(
            each,
            prompt_tokens=max(1, round(each.prompt_tokens * scale)),
            output_tokens=max(1, round(each.output_tokens * scale)),
            block_tokens=max(1, round(each.block_tokens * scale)),
        )
        for each in requests
    ]


def shorter_than(requests: Sequence[TraceRequest], tokens: int) -> list[TraceRequest]:
    """Without the conversations in which a prompt and its answer are longer together."""
    long = {_conversation(each) for each in requests if each.prompt_tokens + each.output_tokens > tokens}
    return from_zero(each for each in requests if _conversation(each) not in long)


def _conversation(request: TraceRequest) -> int:
    """Told apart by the second block: the first is one system prompt for all. Without blocks each stands alone."""
    if request.blocks:
        return request.blocks[min(1, len(request.blocks) - 1)]
    return hash((request.at_s, request.prompt_tokens, request.output_tokens))  # of numbers: the same in every process
