"""One answer from one size or from two: hold back what a judgement needs, let go, or let a larger size take over.

The larger size gets the smaller one's tokens as a draft: it verifies them in one pass and goes on from the first that
it would not have written, so that its answer is its own (its distribution, or when greedy its very tokens). Speculative
cascades (H. Narasimhan et al., Faster Cascades via Speculative Decoding, 2024) interleave both models token by token;
here the smaller one's answer is judged as a whole, because the sizes live in different replicas.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from cluster.rules import Rules
from cluster.snapshot import Decision, Placed, Reason, RouteFacts
from cluster.trail import Role, Segment, Trail, segments
from cluster.watching import Verdict, Watch
from model.config import Size
from model.errors import GemmuleError
from model.events import Event, Failed, Finished, FinishReason, TokenEvent, Usage
from model.request import GenerationRequest

Stream = AsyncGenerator[Placed | Event, None]
Open = Callable[[Decision, GenerationRequest], Stream]
"""One attempt on one size; its work is on the trail once it is closed."""


async def answered(
    open_: Open, decision: Decision, facts: RouteFacts, request: GenerationRequest, rules: Rules, trail: Trail
) -> Stream:
    """`Placed`, then the events of one answer. Raises a `GemmuleError` as long as nothing was sent."""
    watch = Watch(decision, rules, facts.stream, guarded=facts.tier is not None)
    held: list[Placed | Event] = []
    verdict = Verdict.HOLD
    async with aclosing(open_(decision, _asked(request, watch))) as stream:
        async for item in stream:
            verdict = _verdict(watch, item)
            held.append(_shown(item, request))
            if verdict in (Verdict.ESCALATE, Verdict.STOP):
                break
            if watch.sent or isinstance(item, Failed):
                for each in held:
                    yield each
                held.clear()
    if verdict is Verdict.ESCALATE and (large := _larger(decision, facts, rules)) is not None:
        complete = any(isinstance(item, Finished) for item in held)
        async for item in _escalated(open_, decision, large, request, rules, trail, watch, held, complete):
            yield item
        return
    for each in held:
        yield each
    if verdict in (Verdict.STOP, Verdict.ESCALATE):
        trail.escalated = f"stopped: {watch.why}"
        trail.relabel(Role.ANSWER)
        used = Usage(len(request.prompt_token_ids), len(watch.token_ids))
        yield Finished(request.request_id, FinishReason.LENGTH, used)
    trail.wrote = (Segment(decision.size, len(watch.token_ids)),)


async def _escalated(
    open_: Open, decision: Decision, large: Size, request: GenerationRequest, rules: Rules, trail: Trail,
    watch: Watch, held: list[Placed | Event], complete: bool,
) -> Stream:  # fmt: skip
    """The larger size's answer; where that cannot be had, the smaller one's if it is whole."""
    trail.escalated = watch.why
    trail.relabel(Role.DRAFT)
    then = replace(
        decision, size=large, then=None, reason=Reason.ESCALATED, detail=f"{decision.size}'s answer {watch.why}"
    )
    left = int(rules.routing.cascade.max_output_factor * request.sampling.max_tokens) - len(watch.token_ids)
    most = max(1, min(request.sampling.max_tokens, left))
    draft = tuple(watch.token_ids) if rules.routing.cascade.drafts else request.draft_token_ids
    asked = replace(request, draft_token_ids=draft, sampling=replace(request.sampling, max_tokens=most))
    answer: list[int] = []
    started = False
    try:
        async with aclosing(open_(then, asked)) as stream:
            async for item in stream:
                started = True
                if isinstance(item, TokenEvent):
                    answer += item.token_ids
                if isinstance(item, Finished) and not request.draft_token_ids:  # the draft was ours, not the client's
                    item = replace(item, usage=replace(item.usage, accepted_draft_tokens=0, rejected_draft_tokens=0))
                yield item
    except GemmuleError:
        if started or not complete:
            raise
        trail.relabel(Role.ANSWER)
        for each in held:
            yield each
        answer = watch.token_ids
    trail.wrote = segments(decision.size, watch.token_ids, large, answer)


def _verdict(watch: Watch, item: Placed | Event) -> Verdict:
    match item:
        case TokenEvent():
            return watch.see(item)
        case Finished():
            return watch.end()
        case _:
            return Verdict.HOLD


def _asked(request: GenerationRequest, watch: Watch) -> GenerationRequest:
    """With log-probabilities, if the answer is judged by them."""
    if not watch.needs_logprobs or request.sampling.logprobs is not None:
        return request
    return replace(request, sampling=replace(request.sampling, logprobs=0))


def _shown(item: Placed | Event, request: GenerationRequest) -> Placed | Event:
    """Without log-probabilities that the client did not ask for."""
    if isinstance(item, TokenEvent) and item.logprobs and request.sampling.logprobs is None:
        return replace(item, logprobs=())
    return item


def _larger(decision: Decision, facts: RouteFacts, rules: Rules) -> Size | None:
    """Who takes over: as planned, or for a runaway answer the next size of the tier."""
    if decision.then is not None or facts.tier is None or rules.routing.cascade.max_sizes < 2 or not facts.cascade:
        return decision.then
    allowed = [offer.size for offer in decision.offers if offer.size in rules.tiers[facts.tier].sizes]
    place = allowed.index(decision.size)
    return allowed[place + 1] if place + 1 < len(allowed) else None
