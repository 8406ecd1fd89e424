"""`python -m model.bench.steps SETUP`: seconds of our engine's steps by what was in them, as one JSON line.

Lone prompts of several lengths give steps without decoding; several requests at once, steps that only decode, over
contexts of several lengths. Steps with guesses are left out: those compute more tokens than they have sequences.
"""

import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Final

from model.config import CONTEXT_TOKENS, EngineConfig
from model.engine import Engine
from model.events import Failed
from model.instruments import StepRecord
from model.request import GenerationRequest, RequestId, SamplingParams

_FIRST_ID, _LAST_ID = 364, 1700  # ordinary words of the embedded family
_BOS_ID: Final = 2
_TIMEOUT_S: Final = 600.0
_ANSWER: Final = 24  # tokens
_LOOK_S: Final = 0.001
_TOGETHER: Final = (1, 4, 12)
_CONTEXTS: Final = (16, 128, 512)
_PROMPTS: Final = (16, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured. `rounds` of each kind of step, of which medians are kept."""

    folder: str
    config: str  # JSON of an `EngineConfig`
    threads: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Of steps that had the same in them, the median."""

    prompt_tokens: int
    sequences: int  # that decode
    context_tokens: float  # that they look at, together
    seconds: float


class Steps:
    """One engine, asked one thing after the other."""

    def __init__(self, engine: Engine, config: EngineConfig) -> None:
        self._engine, self._config = engine, config
        self._number = count()
        self._records: list[StepRecord] = []
        engine.instruments.listener = self._records.append

    async def warm(self) -> None:
        """Whatever is made lazily."""
        await self._lone(_PROMPTS[-1])
        await self._together(min(4, self._config.max_running), _CONTEXTS[0])

    async def prompts(self, rounds: int) -> list[Observation]:
        """Steps that read one prompt."""
        found = []
        for tokens in (each for each in _PROMPTS if each <= self._config.max_step_tokens):
            took = [await self._lone(tokens) for _ in range(rounds)]
            found.append(Observation(tokens, 0, 0.0, statistics.median(took)))
        return found

    async def decodes(self, rounds: int) -> list[Observation]:
        """Steps in which so many decode and nobody reads."""
        found = []
        for together in (each for each in _TOGETHER if each <= self._config.max_running):
            for context in _CONTEXTS:
                if together * (context + _ANSWER) <= self._config.kv_tokens and context + _ANSWER < CONTEXT_TOKENS:
                    took = [each for _ in range(rounds) for each in await self._together(together, context)]
                    seen = together * (context + _ANSWER / 2)
                    found += [Observation(0, together, seen, statistics.median(took))] if took else []
        return found

    async def _lone(self, tokens: int) -> float:
        self._records.clear()
        await self._ask(tokens, 1)
        while not (mine := [each for each in self._records if each.tokens == tokens]):  # noqa: ASYNC110 - a thread's
            await asyncio.sleep(_LOOK_S)  # a step is recorded after its tokens are told
        return sum(mine[0].part_s)

    async def _together(self, together: int, context: int) -> list[float]:
        self._records.clear()
        await asyncio.gather(*(self._ask(context, _ANSWER) for _ in range(together)))
        plain = [each for each in self._records if each.tokens == each.sequences == together and not each.draft_tokens]
        return [sum(each.part_s) for each in plain]

    async def _ask(self, tokens: int, max_tokens: int) -> None:
        name = f"steps-{next(self._number)}"
        rng = random.Random(name)
        ids = (_BOS_ID, *(rng.randrange(_FIRST_ID, _LAST_ID) for _ in range(tokens - 1)))
        sampling = SamplingParams(max_tokens, 0.0, ignore_eos=True)
        request = GenerationRequest(RequestId(name), ids, sampling, _TIMEOUT_S, salt=name)
        async for event in self._engine.submit(request):
            if isinstance(event, Failed):
                raise RuntimeError(event.fault.message)


async def _measured(setup: Setup) -> dict[str, object]:
    config = EngineConfig.model_validate_json(setup.config)
    engine = Engine(Path(setup.folder), config, threads=setup.threads)
    await engine.start()
    try:
        steps = Steps(engine, config)
        await steps.warm()
        found: Sequence[Observation] = [*await steps.prompts(setup.rounds), *await steps.decodes(setup.rounds)]
        return {"observations": [asdict(each) for each in found], "start_s": engine.start_s}
    finally:
        await engine.close()


def main() -> None:
    """Measure and print."""
    print(json.dumps(asyncio.run(_measured(Setup(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
