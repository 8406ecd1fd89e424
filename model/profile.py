"""A replica's steps, and if wanted its stacks, over a few seconds; while it serves, and one profile at a time."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from model.errors import Code, Fault
from model.instruments import PARTS, Instruments, StepRecord
from model.stacks import sample_stacks

_MOST_STEPS: Final = 20_000  # some 15 MB as a trace


@dataclass(frozen=True, slots=True)
class Profile:
    """Steps in order, from a little before the window on; times are of the instruments' clock."""

    replica: str
    pid: int
    began_s: float  # the window
    ended_s: float
    steps: tuple[StepRecord, ...]
    left_out: int  # steps at the window's end that were too many
    stacks: Mapping[str, int] | None  # see `model.stacks.sample_stacks`


class Profiler:
    """Listens to the instruments only while a profile is made."""

    def __init__(self, replica: str, instruments: Instruments, clock: Callable[[], float] = time.perf_counter) -> None:
        self._replica = replica
        self._instruments = instruments
        self._clock = clock
        self._busy = False

    async def run(self, seconds: float, stacks: bool) -> Profile | Fault:
        """Takes that long; a fault when another one is under way."""
        if self._busy:
            busy = f"{self._replica} is being profiled already; wait for that to end"
            return Fault(Code.OVERLOADED, busy, "profile_running", None, seconds)
        self._busy = True
        try:
            return await self._listen(seconds, stacks)
        finally:
            self._busy = False

    async def _listen(self, seconds: float, stacks: bool) -> Profile:
        heard: list[StepRecord] = []
        left_out = 0

        def listen(record: StepRecord) -> None:
            nonlocal left_out
            if len(heard) < _MOST_STEPS:
                heard.append(record)
            else:
                left_out += 1

        began_s = self._clock()
        self._instruments.listener = listen
        before = list(self._instruments.recent)
        try:
            seen = await (_stacks(seconds) if stacks else asyncio.sleep(seconds, None))
        finally:
            self._instruments.listener = None
        first_s = heard[0].began_s if heard else self._clock()
        steps = [*(record for record in before if record.began_s < first_s), *heard]
        return Profile(self._replica, os.getpid(), began_s, self._clock(), tuple(steps), left_out, seen)


async def _stacks(seconds: float) -> dict[str, int]:
    over = threading.Event()
    try:
        return await asyncio.to_thread(sample_stacks, over, seconds)
    finally:
        over.set()


def summary(profile: Profile) -> dict[str, Any]:
    """The window's steps in a few numbers; those before it are left to the trace."""
    steps = [step for step in profile.steps if step.began_s >= profile.began_s]
    part_s = [sum(times) for times in zip(*(step.part_s for step in steps), strict=True)] or [0.0] * len(PARTS)
    all_s = sum(part_s)
    return {
        "steps": len(steps) + profile.left_out,
        "tokens": sum(step.tokens for step in steps),
        "output_tokens": sum(step.output_tokens for step in steps),
        "sequences_per_step": sum(step.sequences for step in steps) / len(steps) if steps else 0.0,
        "ms_per_step": all_s / len(steps) * 1000 if steps else 0.0,
        "busy_share": min(1.0, all_s / (profile.ended_s - profile.began_s)),
        "part_share": {name: part / all_s if all_s else 0.0 for name, part in zip(PARTS, part_s, strict=True)},
    }
