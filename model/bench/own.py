"""Engines of this project behind the bench's pipe. The one place that says which classes are measured."""

from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Final

from model.bench.lines import Setup
from model.config import Dtype, EngineConfig, Quantization
from model.events import Failed, TokenEvent
from model.request import GenerationRequest, RequestId, SamplingParams

_TIMEOUT_S: Final = 3600.0


class OwnRunner:
    """An engine that keeps `model.contract`. See `model.bench.lines.Runner`."""

    def __init__(self, setup: Setup, make: Callable[..., Any], package: str) -> None:
        self._setup = setup
        self._make = make
        self._package = package
        self._number = count()
        self._engine: Any = None

    async def start(self) -> str:
        """Load and warm up."""
        setup = self._setup
        quantized = setup.dtype in list(Quantization)
        config = EngineConfig(
            dtype=Dtype.BF16 if quantized else Dtype(setup.dtype),
            quantization=Quantization(setup.dtype) if quantized else None,
            max_running=setup.max_concurrency,
            kv_tokens=max(256, setup.kv_tokens),
        )
        self._engine = self._make(Path(setup.folder), config, threads=setup.threads)
        await self._engine.start()
        return version(self._package)

    async def generate(self, prompt: list[int], max_tokens: int) -> AsyncIterator[int]:
        """New tokens of each event. Blocks are shared within one salt only, so salts keep the prefix cache out."""
        name = f"bench-{next(self._number)}"
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        salt = "" if self._setup.prefix_caching else name
        request = GenerationRequest(RequestId(name), tuple(prompt), sampling, _TIMEOUT_S, salt=salt)
        async for event in self._engine.submit(request):
            if isinstance(event, Failed):
                raise RuntimeError(event.fault.message)
            if isinstance(event, TokenEvent):
                yield len(event.token_ids)

    async def close(self) -> None:
        """End the engine."""
        await self._engine.close()


def gemmule(setup: Setup) -> OwnRunner:
    """Our engine."""
    from model.engine import Engine

    return OwnRunner(setup, Engine, "gemmule")


def transformers(setup: Setup) -> OwnRunner:
    """The continuous batching of transformers, as this project runs it."""
    from model.borrowed import BorrowedEngine

    return OwnRunner(setup, BorrowedEngine, "transformers")
