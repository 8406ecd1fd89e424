"""A validated ask becomes the parts of an answer: plan, route, stream; knows no protocol."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol

from cluster.config import ClusterConfig, Tier
from cluster.routing.features import Text
from cluster.snapshot import ClusterStatus, Decision, Limits, Page, Placed, RouteFacts
from cluster.trail import Recorder
from model.config import Size
from model.errors import Code, DeadlineExceededError, Fault, GemmuleError, InvalidRequestError, ModelNotFoundError
from model.events import Event, Failed, TokenEvent
from model.profile import Profile
from model.prompt import Prompter
from model.request import GenerationRequest, RequestId
from serving.account import Account
from serving.ask import Ask
from serving.choice import Choice, total
from serving.generations import Router, opened
from serving.metrics import Metrics
from serving.metrics_page import rendered
from serving.models import ModelCard, model_cards
from serving.parts import Ended, Part, Started
from serving.plan import Plan, plan_of
from serving.profiling import ProfileAsk, pick
from serving.pulse import Pulse
from serving.quote import Quote, quote_of, would_refuse
from serving.readiness import Readiness
from serving.spelling import Speller
from serving.traffic.offer import Offer, nothing

_OFF_LOOP_CHARACTERS: Final = 8000  # of a longer text the beginning and the end are looked at, but hashing reads it all


class Clock(Protocol):
    """The module `time` is one."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def time(self) -> float:
        """Seconds since 1970."""


class Service:
    """One per ingress process; both faces call it."""

    def __init__(
        self,
        cluster: ClusterConfig,
        prompter: Prompter,
        router: Router,
        clock: Clock,
        new_request_id: Callable[[], RequestId],
        recorder: Recorder | None = None,
        metrics: Metrics | None = None,
        offer: Offer = nothing,
    ) -> None:
        """`metrics` and `offer` outlive a service: new settings make another one that goes on with them."""
        self.new_request_id = new_request_id
        self.metrics = metrics or Metrics()
        self.metrics.settled(cluster, router.ingress)
        self._offer = offer
        self._cluster = cluster
        self._prompter = prompter
        self._speller = Speller(prompter)
        self._router = router
        self._clock = clock
        self._recorder = recorder
        self._created = int(clock.time())
        self._readiness = Readiness(cluster)
        self._stand_in: dict[Size, bool] = {}

    async def generate(self, ask: Ask, request_id: RequestId) -> AsyncGenerator[Part, None]:
        """`Started`, parts of choices, `Ended`; raises `GemmuleError` for whatever else ends the request.

        Nothing wrong with the request itself gets past the first item. Closing the generator aborts the request.
        """
        account = Account(request_id, self._clock.monotonic())
        self.metrics.accepted()
        try:
            async with aclosing(self._parts(ask, account)) as parts:
                async for part in parts:
                    yield part
        except GemmuleError as error:
            account.failed(error.fault.code, error.fault.reason)
            raise
        except Exception:
            account.failed(Code.INTERNAL, Code.INTERNAL.value)
            raise
        finally:
            record = account.close(self.metrics, self._clock.monotonic())
            if self._recorder is not None:
                self._recorder.record(record)

    async def quote(self, ask: Ask) -> Quote:
        """What the ask would cost and take on every size, and which would answer now; runs nothing.

        Raises what is wrong with the ask itself; that it would be refused for now is part of the quote.
        """
        size, tier = self._target(ask.model)
        _check_target(ask, size)
        plan = await plan_of(ask, self._prompter, self._speller)
        facts = await self._facts(ask, size, tier, plan)
        found: Decision | Fault
        try:
            found = self._router.decide(facts)
        except GemmuleError as error:
            if not would_refuse(error.fault):
                raise
            found = error.fault
        return quote_of(ask.model, facts, found, self._router.snapshot(), plan.num_choices)

    async def models(self) -> list[ModelCard]:
        """Sizes, cheapest first, then tiers."""
        return model_cards(self._cluster, self._router.overview(), self._created)

    async def status(self) -> ClusterStatus:
        """The cluster at this instant."""
        return await self._router.status()

    def ready(self, size: str | None = None) -> tuple[bool, dict[str, bool]]:
        """Whether requests can be served (of one size, if named), and every size by itself.

        Raises `ModelNotFoundError` for a size that is not served.
        """
        return self._readiness.look(self._router.snapshot(), size)

    async def render_metrics(self) -> bytes:
        """Prometheus' text format, of every ingress process; asks these and every replica."""
        own = self.page()
        pages, engines = await asyncio.gather(self._router.pages(), self._router.stats())
        return rendered(
            {own.ingress: own} | {page.ingress: page for page in pages}, engines, self._router.overview().scaling
        )

    def page(self) -> Page:
        """What this process counts and sees."""
        now = self._router.snapshot()
        self.metrics.seen(now)
        self.metrics.watched(self._router.promises(), now.waived, self._router.shadow_usd)
        return self.metrics.page()

    async def profile(self, ask: ProfileAsk) -> Profile:
        """The next seconds of one replica; raises `GemmuleError` for one that is unknown, or busy with a profile."""
        size, replica = pick(ask, self._router.replicas())
        return await self._router.profile(size, replica, ask.seconds, ask.stacks)

    async def _parts(self, ask: Ask, account: Account) -> AsyncGenerator[Part, None]:
        size, tier = self._target(ask.model)
        _check_target(ask, size)
        account.asked_tier = tier
        plan = await plan_of(ask, self._prompter, self._speller)
        self._offer(ask, plan.prompt)
        facts = await self._facts(ask, size, tier, plan)
        deadline_s = account.began_s + self._timeout_s(ask)
        if deadline_s <= self._clock.monotonic():
            raise DeadlineExceededError(f"deadline_ms: {ask.deadline_ms} ms were over before work began; allow more")

        def request(index: int) -> GenerationRequest:
            return plan.request(account.request_id, index, deadline_s - self._clock.monotonic())

        try:
            async with (
                aclosing(opened(self._router, facts, request, plan.num_choices, account.trail)) as items,
                aclosing(self._told(items, plan, account)) as parts,
            ):
                async for part in parts:
                    yield part
        except GemmuleError as error:
            if (fault := plan.named(error.fault)) is error.fault:
                raise
            raise GemmuleError(fault) from error

    async def _facts(self, ask: Ask, size: Size | None, tier: Tier | None, plan: Plan) -> RouteFacts:
        prompt = plan.prompt
        tokens = len(prompt.token_ids)
        text = Text(prompt.last_user_text, tokens, prompt.num_turns)
        if len(text.text) > _OFF_LOOP_CHARACTERS:
            offers = await asyncio.to_thread(self._router.offers, text, prompt.max_tokens)
        else:
            offers = self._router.offers(text, prompt.max_tokens)
        return RouteFacts(
            size=size,
            tier=tier,
            offers=offers,
            prompt_tokens=tokens,
            max_tokens=prompt.max_tokens,
            limits=_limits(ask),
            # A second size would cost more than the cap of the first, and its answer would be cut for that.
            cascade=plan.num_choices == 1 and plan.echo is None and ask.max_cost is None,
            stream=ask.stream,
            timeout_s=self._timeout_s(ask),
            allow_fallback=ask.allow_fallback,
        )

    async def _told(
        self, items: AsyncGenerator[tuple[int, Placed | Event], None], plan: Plan, account: Account
    ) -> AsyncGenerator[Part, None]:
        """The items of all generations as parts of one answer."""
        choices = [Choice(index, plan, self._speller) for index in range(plan.num_choices)]
        pulse: Pulse | None = None
        async for index, item in items:
            match item:
                case Placed():
                    if index:  # where the others went is known
                        continue
                    account.placed(item, self._clock.monotonic())
                    reason = item.decision.reason.value
                    self.metrics.first_event(account.size, account.tier, reason, account.ttft_s or 0.0)
                    pulse = Pulse(self.metrics.gaps(account.size, account.tier))
                    yield self._started(account.request_id, item, plan.num_choices)
                    for piece in (piece for choice in choices for piece in choice.begin()):
                        yield piece
                case Failed(fault=fault):
                    raise GemmuleError(fault)
                case _:
                    if pulse is not None and isinstance(item, TokenEvent):
                        pulse.beat(index, self._clock.monotonic())
                    for part in choices[index].parts(item):
                        yield part
        if not all(choice.finished for choice in choices):
            raise RuntimeError("a generation ended without its last event")
        account.finished(choices[0].reason, total(choice.used for choice in choices))
        shown = total(choice.shown for choice in choices)
        wrote = (() if plan.silent else account.wrote()) if plan.tells_sizes else None
        yield Ended(choices[0].reason, shown, account.trail.usd, wrote)

    def _started(self, request_id: RequestId, placed: Placed, num_choices: int) -> Started:
        decision = placed.decision
        return Started(
            request_id=request_id,
            size=decision.size,
            tier=decision.tier,
            reason=decision.reason.value,
            detail=decision.detail,
            replica=placed.replica,
            checkpoint=placed.checkpoint,
            stand_in=self._is_stand_in(decision.size),
            created=int(self._clock.time()),
            num_choices=num_choices,
        )

    def _is_stand_in(self, size: Size) -> bool:
        if size not in self._stand_in:  # a slot keeps its checkpoint as long as the cluster lives
            self._stand_in.update({state.size: state.stand_in for state in self._router.overview().sizes})
        return self._stand_in.get(size, False)

    def _target(self, model: str) -> tuple[Size | None, Tier | None]:
        """A size or a tier; they share no name."""
        for size in self._cluster.sizes:
            if model == size.value:
                return size, None
        for tier in self._cluster.tiers:
            if model == tier.value:
                return None, tier
        raise ModelNotFoundError(model, (*self._cluster.sizes, *self._cluster.tiers))

    def _timeout_s(self, ask: Ask) -> float:
        routing = self._cluster.routing
        wanted_s = routing.default_timeout_s if ask.deadline_ms is None else ask.deadline_ms / 1000
        return min(wanted_s, routing.max_timeout_s)


def _check_target(ask: Ask, size: Size | None) -> None:
    """A size that was asked for by name is not chosen by its quality."""
    if size is not None and ask.min_quality is not None:
        what = f"min_quality: {size} was asked for, whatever its quality; name a tier as model, or leave it out"
        raise InvalidRequestError("invalid_value", "min_quality", what)


def _limits(ask: Ask) -> Limits:
    """What each choice may cost, and the others as they are."""
    max_cost_usd = None if ask.max_cost is None else ask.max_cost / ask.n
    deadline_s = None if ask.deadline_ms is None else ask.deadline_ms / 1000
    return Limits(max_cost_usd, deadline_s, ask.min_quality)
