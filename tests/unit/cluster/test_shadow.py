"""A sample of answers, read by the largest size: who is drawn, what is asked, what is concluded."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from cluster.config import ShadowConfig, Tier
from cluster.promise_watch import PromiseWatch
from cluster.shadow import Shadow
from cluster.snapshot import Decision, Placed, Reason
from model.config import END_OF_TURN_ID, Size
from model.events import Event, Finished, FinishReason, Logprob, PromptScored, TokenEvent, Usage
from model.request import GenerationRequest, RequestId, SamplingParams
from tests.unit.cluster.facts import some_offers

REQUEST = GenerationRequest(RequestId("r"), (2, 11, 12), SamplingParams(9), 10.0, draft_token_ids=(5,))


@dataclass
class Largest:
    """Reads, and finds the last token of the answer so much less likely than its own choice."""

    regret: float
    asked: list[GenerationRequest] = field(default_factory=list)

    async def read(self, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        self.asked.append(request)
        scores = [Logprob(token, -0.1, ((token, -0.1),)) for token in request.prompt_token_ids[1:]]
        scores[-2] = Logprob(scores[-2].token_id, -0.1 - self.regret, ((99, -0.1),))
        scores[0] = Logprob(scores[0].token_id, -30.0, ((99, -0.1),))  # of the prompt: nobody's answer
        yield PromptScored(request.request_id, tuple(scores))
        yield Finished(request.request_id, FinishReason.LENGTH, Usage(5, 1))


async def an_answer(size: Size) -> AsyncGenerator[Placed | Event, None]:
    yield Placed(Decision(size, Tier.AUTO, Reason.CHEAPEST, "", some_offers()), "x", "x")
    yield TokenEvent(REQUEST.request_id, "ab", (21, 22))
    yield Finished(REQUEST.request_id, FinishReason.STOP, Usage(3, 3))


async def watched(largest: Largest, size: Size) -> tuple[PromiseWatch, list[Placed | Event]]:
    watch = PromiseWatch({Tier.AUTO: 0.95})
    shadow = Shadow(ShadowConfig(share=1.0), watch, Size.B27, largest.read)
    async with aclosing(shadow.listening(Tier.AUTO, REQUEST, an_answer(size))) as stream:
        items = [item async for item in stream]
    await asyncio.sleep(0.01)
    await shadow.close()
    return watch, items


@pytest.mark.parametrize(("regret", "share"), [(0.2, 1.0), (3.0, 0.0)])
async def test_an_answer_is_as_good_if_the_largest_could_have_given_it(regret: float, share: float) -> None:
    largest = Largest(regret)
    watch, items = await watched(largest, Size.B9)
    assert [type(item) for item in items] == [Placed, TokenEvent, Finished]  # the client's stream is as it was
    kept = watch.kept()[Tier.AUTO]
    assert (kept.answers, kept.share) == (1.0, share)
    (asked,) = largest.asked
    assert asked.prompt_token_ids == (2, 11, 12, 21, 22, END_OF_TURN_ID)
    assert (asked.sampling.max_tokens, asked.sampling.prompt_logprobs, asked.draft_token_ids) == (1, 1, ())
    assert asked.priority > 1000


async def test_what_the_largest_size_answered_needs_no_second_look() -> None:
    largest = Largest(0.0)
    watch, _ = await watched(largest, Size.B27)
    assert not largest.asked
    assert watch.kept()[Tier.AUTO].answers == 1.0


def test_the_share_drawn_is_the_share_asked_for_and_the_same_every_time() -> None:
    shadow = Shadow(ShadowConfig(share=0.2, seed=4), PromiseWatch({}), Size.B27, Largest(0.0).read)
    drawn = [shadow.drawn(RequestId(f"r{number}")) for number in range(5000)]
    assert abs(sum(drawn) / 5000 - 0.2) < 0.02
    assert drawn == [shadow.drawn(RequestId(f"r{number}")) for number in range(5000)]
    nobody = Shadow(ShadowConfig(), PromiseWatch({}), Size.B27, Largest(0.0).read)
    assert not any(nobody.drawn(RequestId(f"r{number}")) for number in range(100))
