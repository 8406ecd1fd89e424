"""One run: who can be asked is asked by turns, and every measurement ends in a row."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from model.bench.engines import ENGINES, OURS, BenchError
from model.bench.files import prepare
from model.bench.lines import Setup
from model.bench.roof import Machine
from model.bench.rounds import Row, Run, Turn, row, turns
from model.bench.runner import RunnerProcess
from model.bench.shapes import model_shape
from model.bench.timing import Measured
from model.bench.workload import Workload

Show = Callable[[str, int, int], None]
"""What is happening now, how many measurements are done, of how many."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """One run's settings. Engines are loaded side by side when they fit into `memory_bytes`."""

    run: Run
    concurrency: tuple[int, ...]
    against: tuple[str, ...]
    rounds: int
    peers: Path
    cache: Path
    memory_bytes: int


@dataclass(slots=True)
class Report:
    """Rows, ordered by concurrency and engine, and a sentence for each thing that could not be measured."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Bench:
    """See the module."""

    def __init__(self, settings: BenchSettings, show: Show) -> None:
        self._settings = settings
        self._show = show
        self._report = Report()
        self._engines: list[str] = []
        self._files: dict[str, Path] = {}
        self._versions: dict[str, str] = {}
        self._samples: dict[tuple[str, int], list[Measured]] = {}
        self._machine = Machine(0.0, 0.0)
        self._done = 0

    def run(self) -> Report:
        """Everything, from files to rows; engines that fail are named in the notes and left out from there on."""
        self._choose()
        self._measure_machine()
        together = self._fits()
        order = turns(self._engines, self._settings.concurrency, self._settings.rounds, together)
        with ExitStack() as stack:
            loaded: dict[str, RunnerProcess] = {}
            for _, one_round in groupby(order, key=lambda turn: turn.round_number):
                for turn in one_round:
                    if turn.engine in self._engines:
                        self._take(turn, loaded, stack, together)
                self._measure_machine()
        self._make_rows()
        return self._report

    def _choose(self) -> None:
        settings = self._settings
        for name in dict.fromkeys((OURS, *settings.against)):
            refusal = ENGINES[name].refusal(settings.run.dtype, settings.peers)
            try:
                if refusal:
                    raise BenchError(refusal)
                self._files[name] = prepare(
                    ENGINES[name], settings.run.shape, settings.run.dtype, settings.peers, settings.cache, self._say
                )
                self._engines.append(name)
            except BenchError as error:
                self._report.notes.append(str(error))

    def _take(self, turn: Turn, loaded: dict[str, RunnerProcess], stack: ExitStack, together: bool) -> None:
        """One measurement, loading the engine first if need be and, where only one fits, ending the one before."""
        try:
            if turn.engine not in loaded:
                if not together:
                    stack.close()
                    loaded.clear()
                loaded[turn.engine] = self._start(turn.engine, stack)
            self._say(f"round {turn.round_number + 1} · {turn.engine} · {turn.concurrency} at once")
            runner = loaded[turn.engine]
            runner.resume()
            sample = runner.ask(self._settings.run.preset(turn.concurrency, turn.round_number))
            runner.pause()
            self._samples.setdefault((turn.engine, turn.concurrency), []).append(sample)
        except BenchError as error:
            self._report.notes.append(str(error))
            self._engines.remove(turn.engine)
        finally:
            self._done += 1

    def _start(self, engine: str, stack: ExitStack) -> RunnerProcess:
        """Load it, and let it make what it makes lazily."""
        self._say(f"starting {engine}")
        runner = RunnerProcess(ENGINES[engine], self._setup(engine), self._settings.peers, self._settings.cache)
        stack.callback(runner.close)
        runner.start()
        runner.ask(Workload(max(self._settings.concurrency), 8, 2, seed=-1))
        self._versions[engine] = runner.version
        return runner

    def _fits(self) -> bool:
        run, longest = self._settings.run, self._settings.run.preset(max(self._settings.concurrency))
        needs = [ENGINES[name].memory_bytes(model_shape(run.shape), run.dtype, longest) for name in self._engines]
        if needs and max(needs) > self._settings.memory_bytes:
            raise BenchError(
                f"{max(needs) / 2**30:.1f} GiB of memory are needed and {self._settings.memory_bytes / 2**30:.1f} GiB "
                "are free; ask for fewer requests at once or a smaller shape"
            )
        return sum(needs) <= self._settings.memory_bytes

    def _setup(self, engine: str) -> Setup:
        run, longest = self._settings.run, self._settings.run.preset(max(self._settings.concurrency))
        return Setup(
            folder=str(self._files[engine]),
            dtype=run.dtype,
            threads=run.threads,
            vocabulary=model_shape(run.shape).vocabulary,
            max_concurrency=longest.concurrency,
            context_tokens=longest.context_tokens,
            prefix_caching=longest.shared_prefix_tokens > 0,
        )

    def _measure_machine(self) -> None:
        """Between rounds, while nobody computes, in a process of its own as it needs torch. The best of all counts."""
        self._say("measuring the machine")
        run = self._settings.run
        command = [sys.executable, "-m", "model.bench.measure", run.dtype, str(run.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the machine cannot be measured: {done.stderr.strip().splitlines()[-1][:300]}")
        self._machine = self._machine.best_of(Machine(**json.loads(done.stdout)))

    def _make_rows(self) -> None:
        for concurrency in self._settings.concurrency:
            for engine in dict.fromkeys((OURS, *self._settings.against)):
                samples = self._samples.get((engine, concurrency))
                if samples:
                    version = self._versions[engine]
                    self._report.rows.append(
                        row(self._settings.run, self._machine, engine, version, concurrency, samples)
                    )

    def _say(self, words: str) -> None:
        total = len(self._engines) * len(self._settings.concurrency) * self._settings.rounds
        self._show(words, self._done, max(total, self._done))
