"""The order of a run, and measurements to rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from model.bench.engines import ENGINES, OURS
from model.bench.roof import Machine, ideal_s, read_share
from model.bench.shapes import TINY, model_shape
from model.bench.timing import Measured, percentile
from model.bench.workload import Workload, preset


class Turn(NamedTuple):
    """One measurement: who, in which round, how many requests at once."""

    round_number: int
    engine: str
    concurrency: int


def turns(engines: Sequence[str], concurrency: Sequence[int], rounds: int, together: bool) -> list[Turn]:
    """Engines take turns at each concurrency; where only one is loaded at a time, it does all of them in its turn."""
    if together:
        return [Turn(n, engine, c) for n in range(rounds) for c in concurrency for engine in engines]
    return [Turn(n, engine, c) for n in range(rounds) for engine in engines for c in concurrency]


@dataclass(frozen=True, slots=True)
class Run:
    """What all rows of a run share."""

    shape: str
    dtype: str
    workload: str
    threads: int

    def preset(self, concurrency: int, round_number: int = 0) -> Workload:
        """The workload of one turn."""
        return preset(self.workload, concurrency, round_number, tiny=self.shape == TINY)


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one concurrency. Throughput is the rounds' median; percentiles are over all rounds' tokens.

    `spread` is (largest - smallest) / median throughput, `share_of_roof` the least possible time over the median time,
    `read_share` the part of the read bandwidth that the median step uses, by the bytes that this engine reads.
    """

    engine: str
    version: str
    shape: str
    dtype: str
    workload: str
    concurrency: int
    rounds: int
    output_tokens_per_s: float
    spread: float
    wall_s: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p90_s: float
    itl_p99_s: float
    ideal_s: float
    share_of_roof: float
    read_share: float
    read_bytes_per_s: float
    flops_per_s: float
    cpu: str
    threads: int


def row(run: Run, machine: Machine, engine: str, version: str, concurrency: int, samples: Sequence[Measured]) -> Row:
    """All rounds of one engine at one concurrency."""
    shape, workload = model_shape(run.shape), run.preset(concurrency)
    rates = [sample.output_tokens_per_s for sample in samples]
    wall_s = median(sample.wall_s for sample in samples)
    ttft_s = [value for sample in samples for value in sample.ttft_s]
    itl_s = [value for sample in samples for value in sample.itl_s]
    least_s = ideal_s(shape, run.dtype, workload, machine)
    return Row(
        engine=engine,
        version=version,
        shape=run.shape,
        dtype=run.dtype,
        workload=run.workload,
        concurrency=concurrency,
        rounds=len(samples),
        output_tokens_per_s=median(rates),
        spread=(max(rates) - min(rates)) / median(rates),
        wall_s=wall_s,
        ttft_p50_s=percentile(ttft_s, 0.5),
        ttft_p90_s=percentile(ttft_s, 0.9),
        ttft_p99_s=percentile(ttft_s, 0.99),
        itl_p50_s=percentile(itl_s, 0.5),
        itl_p90_s=percentile(itl_s, 0.9),
        itl_p99_s=percentile(itl_s, 0.99),
        ideal_s=least_s,
        share_of_roof=least_s / wall_s,
        read_share=read_share(ENGINES[engine].step_bytes(shape, run.dtype, workload), machine, percentile(itl_s, 0.5)),
        read_bytes_per_s=machine.read_bytes_per_s,
        flops_per_s=machine.flops_per_s,
        cpu=machine.cpu,
        threads=run.threads,
    )


def ratios(rows: Sequence[Row]) -> Mapping[tuple[str, int], float]:
    """(peer, concurrency) -> our throughput over the peer's; above 1 we are faster."""
    ours = {row.concurrency: row.output_tokens_per_s for row in rows if row.engine == OURS}
    return {
        (row.engine, row.concurrency): ours[row.concurrency] / row.output_tokens_per_s
        for row in rows
        if row.engine != OURS and row.concurrency in ours and row.output_tokens_per_s > 0
    }
