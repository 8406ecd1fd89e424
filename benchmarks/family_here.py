"""The embedded family on a private Ray, without faces: what benchmarks of routing ask."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from cluster.environment import prepare

prepare()  # before Ray is imported

from ray import serve  # noqa: E402
from ray.serve.handle import DeploymentHandle  # noqa: E402

from cluster.build import engine_of, router_of  # noqa: E402
from cluster.config import ClusterConfig, Tier  # noqa: E402
from cluster.local import ray_here  # noqa: E402
from cluster.router import Router  # noqa: E402
from cluster.routing.features import Text  # noqa: E402
from cluster.snapshot import RouteFacts  # noqa: E402
from cluster.trail import Trail  # noqa: E402
from model.config import Size  # noqa: E402
from model.events import TokenEvent  # noqa: E402
from model.prompt import Prompter, Role, Turn  # noqa: E402
from model.request import GenerationRequest, RequestId, SamplingParams  # noqa: E402
from model.source import parse_source, resolve  # noqa: E402

Handles = dict[Size, DeploymentHandle]


@asynccontextmanager
async def family(config: ClusterConfig) -> AsyncIterator[tuple[Handles, Prompter]]:
    """Handles of every size once all are up, and the family's tokenizer."""
    with ray_here(config):
        serve.start(proxy_location="Disabled")
        handles: Handles = {}
        for size, sized in config.sizes.items():
            app = engine_of(size, sized, config)
            handles[size] = await asyncio.to_thread(serve.run, app, name=f"bench-{size}", route_prefix=None)
        folder = resolve(parse_source(next(iter(config.sizes.values())).source), None, None)
        yield handles, Prompter(folder / "tokenizer.json")


@asynccontextmanager
async def routed(config: ClusterConfig, handles: Handles) -> AsyncIterator[Router]:
    """A router that sees every size."""
    router = router_of(config, handles)
    await router.start()
    while True:
        await asyncio.sleep(0.1)
        if all(state.num_replicas for state in router.snapshot().sizes):
            break
    try:
        yield router
    finally:
        await router.close()


@dataclass(frozen=True, slots=True)
class Question:
    """A chat, encoded."""

    text: Text
    token_ids: tuple[int, ...]


def question(prompter: Prompter, messages: Sequence[Mapping[str, object]]) -> Question:
    """Of a chat as clients write it."""
    turns = [Turn(Role(str(message["role"])), str(message["content"])) for message in messages]
    ids = prompter.chat(turns)
    asked = [turn.text for turn in turns if turn.role is Role.USER]
    return Question(Text(asked[-1], len(ids), len(asked)), ids)


async def ask(
    router: Router, target: Size | Tier, asked: Question, number: int, max_tokens: int = 96, timeout_s: float = 300.0
) -> tuple[str, Trail]:
    """The greedy answer, and who worked on it. Raises a `GemmuleError`."""
    request = GenerationRequest(
        RequestId(f"bench-{number}"), asked.token_ids, SamplingParams(max_tokens, temperature=0.0), timeout_s
    )
    facts = RouteFacts(
        size=target if isinstance(target, Size) else None,
        tier=target if isinstance(target, Tier) else None,
        offers=router.offers(asked.text, max_tokens),
        prompt_tokens=len(asked.token_ids),
        max_tokens=max_tokens,
        timeout_s=timeout_s,
    )
    trail, words = Trail(), []
    async with aclosing(router.route(facts, request, trail)) as stream:
        async for item in stream:
            if isinstance(item, TokenEvent):
                words.append(item.text)
    return "".join(words), trail
