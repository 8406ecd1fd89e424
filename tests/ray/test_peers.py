"""Ingress processes find each other on a real Ray."""

import asyncio

import pytest
from ray import serve

from cluster.build import peers_here
from cluster.snapshot import Page

pytestmark = pytest.mark.ray


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0})
class Counting:
    """Stands in for the ingress: counts nothing, and says so."""

    def __init__(self) -> None:
        self._peers = peers_here()

    async def page(self) -> Page:
        return Page(self._peers.name, b"")

    async def pages(self) -> tuple[Page, ...]:
        return await self._peers.pages()


async def test_each_sees_itself_and_the_others(ray_cluster: None) -> None:
    app = Counting.bind()  # type: ignore[attr-defined]
    handle = await asyncio.to_thread(serve.run, app, name="app-peers", route_prefix=None)
    seen = [frozenset(page.ingress for page in await handle.pages.remote()) for _ in range(8)]
    assert len(seen[0]) == 2
    assert set(seen) == {seen[0]}
