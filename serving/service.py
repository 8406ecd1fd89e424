"""A validated ask becomes events: prompt, route, stream; knows no protocol."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.config import ClusterConfig, Tier
from cluster.difficulty import difficulty
from cluster.snapshot import ClusterStatus, Placed, RouteFacts, Snapshot
from model.config import Size
from model.errors import Code, DeadlineExceededError, GemmuleError, ModelNotFoundError
from model.events import Event, Failed, Finished, TokenEvent
from model.prompt import Prompter
from model.request import GenerationRequest, RequestId, SamplingParams
from serving.account import Account
from serving.ask import Ask
from serving.metrics import NONE, Metrics
from serving.models import ModelCard, model_cards
from serving.prompting import Prompt, prompt_of
from serving.readiness import Readiness

_GREEDY_BELOW: Final = 1e-5  # dividing by less overflows fp32; the likeliest token wins long before


class Router(Protocol):
    """Who places requests. The first item of a stream is `Placed`, or a `GemmuleError` is raised before any item."""

    def route(self, facts: RouteFacts, request: GenerationRequest) -> AsyncGenerator[Placed | Event, None]:
        """`Placed`, then events; closing the generator aborts the request everywhere.

        Each item may be taken by another task: no timeout or task group may stay open across a `yield`.
        """

    def snapshot(self) -> Snapshot:
        """All served sizes now; cheap, no waiting."""

    async def status(self) -> ClusterStatus:
        """Sizes, replicas and ranks."""


class Clock(Protocol):
    """The module `time` is one."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def time(self) -> float:
        """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Started:
    """First part of an answer: who works on it, and why."""

    request_id: RequestId
    size: Size
    tier: Tier | None
    reason: str
    detail: str
    replica: str
    checkpoint: str
    stand_in: bool
    created: int


Part = Started | TokenEvent | Finished


class Service:
    """One per ingress process; both faces call it."""

    def __init__(
        self,
        cluster: ClusterConfig,
        prompter: Prompter,
        router: Router,
        clock: Clock,
        new_request_id: Callable[[], RequestId],
    ) -> None:
        self.new_request_id = new_request_id
        self.metrics = Metrics()
        self._cluster = cluster
        self._prompter = prompter
        self._router = router
        self._clock = clock
        self._created = int(clock.time())
        self._readiness = Readiness(cluster)
        self._stand_in: dict[Size, bool] = {}

    async def generate(self, ask: Ask, request_id: RequestId) -> AsyncGenerator[Part, None]:
        """`Started`, `TokenEvent`s, `Finished`; raises `GemmuleError` for whatever else ends the request.

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
            account.close(self.metrics, self._clock.monotonic())

    async def models(self) -> list[ModelCard]:
        """Sizes, cheapest first, then tiers."""
        return model_cards(self._cluster, await self._router.status(), self._created)

    async def status(self) -> ClusterStatus:
        """The cluster at this instant."""
        return await self._router.status()

    def ready(self, size: str | None = None) -> tuple[bool, dict[str, bool]]:
        """Whether requests can be served (of one size, if named), and every size by itself.

        Raises `ModelNotFoundError` for a size that is not served.
        """
        return self._readiness.look(self._router.snapshot(), size)

    def render_metrics(self) -> bytes:
        """Prometheus' text format."""
        return self.metrics.render(self._router.snapshot())

    async def _parts(self, ask: Ask, account: Account) -> AsyncGenerator[Part, None]:
        size, tier = self._target(ask.model)
        account.tier = tier or NONE
        prompt = await prompt_of(ask, self._prompter)
        facts = RouteFacts(
            size=size,
            tier=tier,
            difficulty=difficulty(prompt.last_user_text, prompt.num_turns, len(prompt.token_ids)),
            prompt_tokens=len(prompt.token_ids),
            max_tokens=prompt.max_tokens,
        )
        left_s = self._timeout_s(ask) - (self._clock.monotonic() - account.began_s)
        if left_s <= 0:
            raise DeadlineExceededError(f"deadline_ms: {ask.deadline_ms} ms were over before work began; allow more")
        request = GenerationRequest(account.request_id, prompt.token_ids, _sampling(ask, prompt), left_s)
        async with aclosing(self._router.route(facts, request)) as items:
            async for item in items:
                match item:
                    case Placed():
                        account.placed(item, self._clock.monotonic())
                        self.metrics.first_event(account.size, account.tier, account.ttft_s or 0.0)
                        yield await self._started(account.request_id, item)
                    case Failed(fault=fault):
                        raise GemmuleError(fault)
                    case Finished():
                        account.finished(item)
                        yield item
                    case TokenEvent():
                        yield item

    async def _started(self, request_id: RequestId, placed: Placed) -> Started:
        decision = placed.decision
        return Started(
            request_id=request_id,
            size=decision.size,
            tier=decision.tier,
            reason=decision.reason.value,
            detail=decision.detail,
            replica=placed.replica,
            checkpoint=placed.checkpoint,
            stand_in=await self._is_stand_in(decision.size),
            created=int(self._clock.time()),
        )

    async def _is_stand_in(self, size: Size) -> bool:
        if size not in self._stand_in:  # a slot keeps its checkpoint as long as the cluster lives
            self._stand_in.update({state.size: state.stand_in for state in (await self._router.status()).sizes})
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


def _sampling(ask: Ask, prompt: Prompt) -> SamplingParams:
    """Engine's parameters; what means the likeliest token is spelled as greedy."""
    greedy = ask.temperature < _GREEDY_BELOW or ask.top_p == 0
    return SamplingParams(
        max_tokens=prompt.max_tokens,
        temperature=0.0 if greedy else ask.temperature,
        top_k=ask.top_k if ask.top_k is not None and ask.top_k > 0 else None,
        top_p=1.0 if greedy else ask.top_p,
        stop=tuple(ask.stop),
    )
