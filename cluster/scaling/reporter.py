"""An ingress process's side of scaling: it counts what is wanted, tells the policy, and learns what was decided."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from cluster.config import ClusterConfig, Tier
from cluster.scaling.arrivals import Arrivals
from cluster.scaling.board import Board, process_name
from cluster.scaling.occupancy import Occupancy
from cluster.scaling.report import IngressReport, SizeReport
from cluster.scaling.verdict import Verdict
from cluster.snapshot import ReplicaLoad
from model.config import Size

log = logging.getLogger("gemmule.scaling")

_TELL_S: Final = 1.0
_LOOK_S: Final = 0.25  # between two looks at the slots at work

Loads = Callable[[Size], Iterable[ReplicaLoad]]
Ongoing = Callable[[Size], int]


class Reporter:
    """One per ingress process, whatever its settings become."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._config: ClusterConfig | None = None
        self._process, self._number = process_name(), 0
        self._task: asyncio.Task[None] | None = None
        self._settled: ClusterConfig | None = None  # on the board
        self.unplaced: Counter[Size] = Counter()
        """Requests that wait for a size to wake."""
        self.verdict = Verdict()

    def settle(self, config: ClusterConfig, loads: Loads, ongoing: Ongoing) -> None:
        """Go by these settings from now on; needs a running event loop."""
        window_s, clock = config.scaling.window_s, asyncio.get_running_loop().time
        if self._config is None or window_s != self._config.scaling.window_s:
            self._arrivals, self._occupancy = Arrivals(window_s, clock()), Occupancy(window_s)
        self._config, self._loads, self._ongoing, self._clock = config, loads, ongoing, clock
        if self._task is None:
            self._task = asyncio.create_task(self._report(), name="scaling-reports")

    def close(self) -> None:
        """Report no more."""
        if self._task is not None:
            self._task.cancel()

    def wanted(self, size: Size, tier: Tier | None) -> None:
        """A request came whose first choice this size is, wherever it goes."""
        self._arrivals.see(size, tier, self._clock())

    def ended(self, size: Size) -> None:
        """A request left the size."""
        self._occupancy.ended(size, self._clock())

    async def _report(self) -> None:
        next_s = 0.0
        while (config := self._config) is not None:
            now_s = self._clock()
            for size in config.sizes:
                self._occupancy.running(size, sum(load.running for load in self._loads(size)), now_s)
            if now_s >= next_s:
                next_s = now_s + _TELL_S
                try:
                    await asyncio.to_thread(self._exchange, self._facts(config, now_s), config)
                except Exception:  # Ray's store may be away for a moment; the next report says the same
                    log.exception("no word with the scaling policy")
            await asyncio.sleep(_LOOK_S)

    def _exchange(self, report: IngressReport, config: ClusterConfig) -> None:
        if config is not self._settled:
            self._board.settle(config)
            self._settled = config
        self._board.tell(report)
        self.verdict = self._board.verdict() or self.verdict

    def _facts(self, config: ClusterConfig, now_s: float) -> IngressReport:
        self._number += 1
        return IngressReport(self._process, self._number, tuple(self._of(size, now_s) for size in config.sizes))

    def _of(self, size: Size, now_s: float) -> SizeReport:
        loads, last_s = list(self._loads(size)), self._arrivals.last_s(size)
        return SizeReport(
            size=size,
            wanted_per_s=tuple(self._arrivals.per_s(size, now_s).items()),
            trend_per_s2=self._arrivals.trend_per_s2(size, now_s),
            ongoing=self._ongoing(size),
            unplaced=self.unplaced[size],
            idle_s=None if last_s is None else now_s - last_s,
            slot_s=self._occupancy.slot_s(size),
            num_ended=self._occupancy.num_ended(size),
            waiting=sum(load.waiting for load in loads),
            kv_used_share=max((load.kv_used_share for load in loads), default=0.0),
            start_s=max((load.start_s for load in loads), default=0.0),
        )
