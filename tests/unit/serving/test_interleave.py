"""Several streams as one: order within each, the first error, and that closing closes all."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from serving.interleave import interleave


class Streams:
    """Streams that count what was taken of them and remember their end."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.closed: list[str] = []

    async def make(self, name: str, length: int, error: Exception | None = None) -> AsyncGenerator[str, None]:
        try:
            for number in range(length):
                await asyncio.sleep(0)
                self.taken[name] = number + 1
                yield f"{name}{number}"
            if error is not None:
                raise error
        finally:
            self.closed.append(name)


@pytest.mark.parametrize("lengths", [(3,), (3, 3), (1, 5, 2), (0, 2), (0,)])
async def test_each_stream_keeps_its_order(lengths: tuple[int, ...]) -> None:
    streams = Streams()
    merged = interleave([streams.make(str(index), length) for index, length in enumerate(lengths)])
    got = [item async for item in merged]
    for index, length in enumerate(lengths):
        assert [item for i, item in got if i == index] == [f"{index}{number}" for number in range(length)]
    assert sorted(streams.closed) == [str(index) for index in range(len(lengths))]


@pytest.mark.parametrize("others", [0, 2])
async def test_an_error_ends_all(others: int) -> None:
    streams = Streams()
    endless = [streams.make(f"e{number}", 10**9) for number in range(others)]
    with pytest.raises(ValueError, match="broken"):
        [item async for item in interleave([streams.make("x", 1, ValueError("broken")), *endless])]
    assert len(streams.closed) == others + 1


@pytest.mark.parametrize("count", [1, 3])
async def test_closing_closes_all_and_none_runs_ahead(count: int) -> None:
    streams = Streams()
    async with aclosing(interleave([streams.make(str(number), 10**9) for number in range(count)])) as merged:
        await anext(merged)
        await asyncio.sleep(0.01)
        assert sum(streams.taken.values()) <= 1 + 2 * count
    assert len(streams.closed) == count
