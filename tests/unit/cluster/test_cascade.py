"""A smaller size's answer, watched: let go, handed on as a draft, or ended; told by a script in place of replicas."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from cluster.cascade import answered
from cluster.config import GuardAction, Tier
from cluster.guard import repeats
from cluster.routing.judge import Judge
from cluster.rules import Rules
from cluster.snapshot import Decision, Placed, Reason, RouteFacts
from cluster.trail import Role, Segment, Trail, Work, price, segments
from model.config import Size
from model.errors import GemmuleError, OverloadedError
from model.events import Event, Finished, FinishReason, Logprob, TokenEvent, Usage
from model.request import GenerationRequest, RequestId, SamplingParams
from tests.unit.cluster.facts import an_ask, some_offers, some_rules

ID = RequestId("r")
# Right if every token was likely: the least log-probability decides.
JUDGE = Judge(
    np.array([0.0, 0.0, 4.0, 4.0]), {Size.B27: np.array([1.0, 0.0, 0.0, 0.0])},
    np.array([[-0.1, -0.2]]), np.array([[-2.0, -4.0]]),
)  # fmt: skip
RULES = some_rules({Size.B2: JUDGE})
OFFERS = some_offers(0.5, 0.6, 0.95, tokens=6.0)
DECISION = Decision(Size.B2, Tier.AUTO, Reason.CHEAPEST, "", OFFERS, Size.B27, 0.3)


@dataclass
class Replicas:
    """What each size says: a token and its log-probability at a time."""

    says: dict[Size, list[tuple[int, float]]]
    full: set[Size] = field(default_factory=set)
    asked: list[tuple[Size, GenerationRequest]] = field(default_factory=list)
    trail: Trail = field(default_factory=Trail)

    async def open(self, decision: Decision, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        size, written, finished = decision.size, 0, False
        self.asked.append((size, request))
        if size in self.full:
            raise OverloadedError(f"{size} is full", 1.0)
        try:
            yield Placed(decision, f"{size}#0", "scripted")
            for token, logprob in self.says[size][: request.sampling.max_tokens]:
                scores = (Logprob(token, logprob),) if request.sampling.logprobs is not None else ()
                written += 1
                yield TokenEvent(ID, chr(token), (token,), scores)
            finished = True
            yield Finished(ID, FinishReason.STOP, Usage(3, written, 0, len(request.draft_token_ids), 0))
        finally:
            role = Role.ANSWER if finished else Role.LOST
            self.trail.works.append(Work(size, f"{size}#0", role, Usage(3, written), 0.0))


def text(word: str, logprob: float = -0.01) -> list[tuple[int, float]]:
    return [(ord(letter), logprob) for letter in word]


def a_request(max_tokens: int = 100, logprobs: int | None = None) -> GenerationRequest:
    return GenerationRequest(ID, (1, 2, 3), SamplingParams(max_tokens, logprobs=logprobs), 10.0)


async def told(
    replicas: Replicas, request: GenerationRequest | None = None, decision: Decision = DECISION,
    facts: RouteFacts | None = None, rules: Rules = RULES,
) -> list[Placed | Event]:  # fmt: skip
    facts = facts or an_ask(Tier.AUTO, OFFERS)
    async with aclosing(
        answered(replicas.open, decision, facts, request or a_request(), rules, replicas.trail)
    ) as stream:
        return [item async for item in stream]


def words(items: list[Placed | Event]) -> str:
    return "".join(item.text for item in items if isinstance(item, TokenEvent))


def first(items: list[Placed | Event]) -> Placed:
    assert isinstance(items[0], Placed)
    assert sum(isinstance(item, Placed) for item in items) == 1
    assert isinstance(items[-1], Finished)
    return items[0]


async def test_an_answer_that_looks_right_is_kept() -> None:
    replicas = Replicas({Size.B2: text("right")})
    items = await told(replicas)
    assert first(items).decision.size is Size.B2
    assert words(items) == "right"
    assert [work.role for work in replicas.trail.works] == [Role.ANSWER]
    assert replicas.trail.wrote == (Segment(Size.B2, 5),)
    assert not any(item.logprobs for item in items if isinstance(item, TokenEvent))  # nobody asked for them


async def test_a_weak_answer_goes_on_as_a_draft() -> None:
    replicas = Replicas({Size.B2: [*text("3"), *text("6", -3.0)], Size.B27: text("37")})
    items = await told(replicas)
    placed = first(items)
    assert (placed.decision.size, placed.decision.reason) == (Size.B27, Reason.ESCALATED)
    assert "2b's answer right with" in placed.decision.detail
    assert words(items) == "37"
    (_, small), (size, large) = replicas.asked
    assert (size, large.draft_token_ids) == (Size.B27, (ord("3"), ord("6")))
    assert small.sampling.logprobs == 0
    assert large.sampling.logprobs is None
    assert [(work.size, work.role) for work in replicas.trail.works] == [(Size.B2, Role.DRAFT), (Size.B27, Role.ANSWER)]
    assert replicas.trail.wrote == (Segment(Size.B2, 1), Segment(Size.B27, 1))
    last = items[-1]
    assert isinstance(last, Finished)
    assert last.usage.accepted_draft_tokens == 0  # the client sent no prediction


async def test_a_hopeless_answer_is_ended_at_once() -> None:
    """Whatever follows, the least of the log-probabilities stays: the rest is not waited for."""
    replicas = Replicas({Size.B2: [*text("x", -5.0), *text("yyyyyyyy")], Size.B27: text("ok")})
    assert words(await told(replicas)) == "ok"
    assert replicas.asked[1][1].draft_token_ids == (ord("x"),)
    assert replicas.trail.works[0].usage.output_tokens == 1


async def test_what_defeats_both_sizes_is_not_escalated() -> None:
    hopeless = replace(DECISION, offers=some_offers(0.05, 0.06, 0.07))
    replicas = Replicas({Size.B2: text("no", -3.0)})
    assert words(await told(replicas, decision=hopeless)) == "no"


async def test_a_stream_is_held_back_no_longer_than_the_judgement_takes() -> None:
    routing = RULES.routing.model_copy(update={"cascade": RULES.routing.cascade.model_copy(update={"hold_tokens": 3})})
    replicas = Replicas({Size.B2: text("abcdefgh")})
    facts, seen = replace(an_ask(Tier.AUTO, OFFERS), stream=True), []
    stream = answered(replicas.open, DECISION, facts, a_request(), replace(RULES, routing=routing), replicas.trail)
    async with aclosing(stream):
        async for item in stream:
            if isinstance(item, TokenEvent):
                seen.append(item.text)
            if len(seen) == 3:
                break  # the replica has said no more than that
    assert replicas.trail.works[0].usage.output_tokens == 3


async def test_log_probabilities_that_were_asked_for_are_kept() -> None:
    items = await told(Replicas({Size.B2: text("ab")}), a_request(logprobs=0))
    assert all(item.logprobs for item in items if isinstance(item, TokenEvent))


async def test_where_the_larger_size_cannot_serve_a_whole_answer_stands() -> None:
    by_mean = replace(JUDGE, keep=np.array([0.0, 4.0, 0.0, 4.0]))
    replicas = Replicas({Size.B2: text("36", -1.5)}, full={Size.B27})
    assert words(await told(replicas, rules=some_rules({Size.B2: by_mean}))) == "36"
    assert [size for size, _ in replicas.asked] == [Size.B2, Size.B27]
    assert [work.role for work in replicas.trail.works] == [Role.ANSWER]
    cut = Replicas({Size.B2: [*text("x", -5.0), *text("yyyy")]}, full={Size.B27})
    with pytest.raises(GemmuleError):  # half an answer is none; the router tries elsewhere
        await told(cut)


async def test_all_sizes_together_write_no_more_than_allowed() -> None:
    tight = RULES.routing.model_copy(
        update={"cascade": RULES.routing.cascade.model_copy(update={"max_output_factor": 1.0})}
    )
    replicas = Replicas({Size.B2: [*text("abc"), *text("d", -3.0)], Size.B27: text("abcdefghij")})
    items = await told(replicas, a_request(max_tokens=10), rules=replace(RULES, routing=tight))
    assert len(words(items)) == 6  # 4 + 6 = 1.0 x 10


LOOP = text("ab" * 400)


def guarded(action: GuardAction) -> Rules:
    guard = RULES.routing.guard.model_copy(update={"action": action, "least_tokens": 600})
    return replace(RULES, routing=RULES.routing.model_copy(update={"guard": guard}))


async def test_an_answer_that_repeats_itself_escalates_or_ends() -> None:
    alone = replace(DECISION, then=None)
    request = a_request(max_tokens=1000)
    replicas = Replicas({Size.B2: LOOP, Size.B9: text("fine")})
    items = await told(replicas, request, alone, rules=guarded(GuardAction.ESCALATE))
    assert first(items).decision.size is Size.B9  # the next size of the tier
    assert "repeats itself" in first(items).decision.detail
    assert words(items) == "fine"

    stopped = Replicas({Size.B2: LOOP})
    items = await told(stopped, request, alone, rules=guarded(GuardAction.STOP))
    last = items[-1]
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.LENGTH
    assert last.usage.output_tokens == len(words(items)) < 100
    assert stopped.trail.works[0].role is Role.ANSWER

    streamed = Replicas({Size.B2: LOOP})  # what was sent cannot be taken back
    facts = replace(an_ask(Tier.AUTO, OFFERS), stream=True)
    items = await told(streamed, request, alone, facts, guarded(GuardAction.ESCALATE))
    assert first(items).decision.size is Size.B2
    assert len(words(items)) < 100


async def test_an_answer_far_longer_than_predicted_ends() -> None:
    letters = [(1000 + number, -0.01) for number in range(900)]
    replicas = Replicas({Size.B2: letters})
    items = await told(replicas, a_request(1000), replace(DECISION, then=None), rules=guarded(GuardAction.STOP))
    assert len(words(items)) == 600


async def test_an_explicit_size_is_never_cut_short_or_changed() -> None:
    explicit = Decision(Size.B2, None, Reason.EXPLICIT, "", OFFERS)
    items = await told(
        Replicas({Size.B2: LOOP}), a_request(1000), explicit, an_ask(Size.B2, OFFERS), guarded(GuardAction.ESCALATE)
    )
    assert words(items) == "ab" * 400


def test_a_loop_is_a_long_repetition_and_not_a_ruled_line() -> None:
    assert repeats([5] * 80)
    assert repeats([*range(100), *list(range(20)) * 5])
    assert not repeats([5] * 40)
    assert not repeats(list(range(300)))
    assert not repeats([1, 2, 3, *[7] * 50, 4])


def test_a_draft_is_paid_like_a_prompt() -> None:
    plain = price(Usage(40, 20), 1e6)
    drafted = price(Usage(40, 20, 0, accepted_draft_tokens=16, rejected_draft_tokens=4), 1e6)
    assert (plain, drafted) == (30.0, 40 / 4 + 20 / 4 + 4)


def test_segments_part_at_the_first_disagreement() -> None:
    assert segments(Size.B2, [1, 2, 3], Size.B27, [1, 2, 9, 3]) == (Segment(Size.B2, 2), Segment(Size.B27, 2))
    assert segments(Size.B2, [1, 2], Size.B27, [1, 2]) == (Segment(Size.B2, 2),)
    assert segments(Size.B2, [], Size.B27, [4]) == (Segment(Size.B27, 1),)
