"""The simulator against the live cluster: `python -m benchmarks.simulation TRACE [--seconds 150] [--json FILE]`.

A thinned stretch of the Azure conversation trace, with tiers and difficulties drawn by a seed, is played to the
embedded family on a private Ray through the real router, and then replayed by the simulator with costs that were
measured on the same cluster just before. Both get the same requests at the same instants, and the same offers.
"""

import argparse
import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.family_here import Handles, family, routed
from benchmarks.speed_here import SHORT, Measured, crowding, measure
from cluster.config import ClusterConfig, GuardAction, GuardConfig, RoutingConfig
from cluster.router import Router
from cluster.simulation.ask import Ask
from cluster.simulation.asking import Asking, prospects_of, rules_for
from cluster.simulation.fleet import Fleet, SizeFleet
from cluster.simulation.job import Job
from cluster.simulation.result import ALL, Result
from cluster.simulation.simulator import Options, simulate
from cluster.simulation.stepped import request_of
from cluster.trace_shape import shorter_than, shrunk, sped_up, thinned_to, within
from cluster.traces import from_zero, read_trace
from cluster.trail import Trail
from model.config import Size
from model.errors import GemmuleError
from model.events import Finished, TokenEvent
from model.request import GenerationRequest

WINDOW_TOKENS = 256  # of the embedded family
LATE_S = 2.0  # that a client waits longer than its timeout for the engine's own word


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both."""

    name: str
    live: float
    simulated: float

    @property
    def ratio(self) -> float:
        return self.simulated / self.live if self.live else float(self.simulated == self.live)


@dataclass(frozen=True, slots=True)
class Lived:
    """What became of one request."""

    tier: str
    size: str
    ttft_s: float | None
    total_s: float
    answered: bool


def config_of() -> ClusterConfig:
    """Answers to random words repeat themselves, which is not what is looked at: no guard."""
    guard = GuardConfig(action=GuardAction.OFF)
    return ClusterConfig(routing=RoutingConfig(guard=guard))


def asks_of(config: ClusterConfig, options: argparse.Namespace) -> list[Ask]:
    """A stretch of the trace from its middle, thinned and shrunk to the small family."""
    whole = shorter_than(shrunk(read_trace(options.trace), options.scale), options.longest)
    stretch = within(whole, options.begin, options.begin + options.stretch)
    requests = thinned_to(stretch, round(options.rate * options.seconds), options.seed)
    requests = from_zero(sped_up(requests, requests[-1].at_s / options.seconds))
    _, profile = rules_for(config)
    asking = Asking(prospects_of(profile), config.sizes, timeout_s=options.timeout, seed=options.seed)
    return [replace(ask, facts=replace(ask.facts, stream=True)) for ask in asking(requests)]


async def live(router: Router, asks: list[Ask]) -> list[Lived]:
    """Everything is sent when it is due; a slow cluster is not asked less."""
    requests = [_request(ask) for ask in asks]
    began_s = time.perf_counter() + 0.5

    async def one(ask: Ask, request: GenerationRequest) -> Lived:
        due_s = began_s + ask.at_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        first_s, answered, trail = None, False, Trail()
        try:
            async for item in router.route(ask.facts, request, trail):
                if isinstance(item, TokenEvent) and first_s is None:
                    first_s = time.perf_counter() - due_s
                answered = answered or isinstance(item, Finished)
        except GemmuleError:
            pass
        size = str(trail.works[-1].size) if trail.works else ""
        return Lived(str(ask.facts.tier), size, first_s, time.perf_counter() - due_s, answered)

    return await asyncio.gather(*(one(ask, request) for ask, request in zip(asks, requests, strict=True)))


def _request(ask: Ask) -> GenerationRequest:
    output = next(iter(ask.output_tokens.values()))
    job = Job(ask.number, ask.at_s, 0, ask.facts.prompt_tokens, output, ask.blocks, ask.block_tokens)
    return replace(request_of(job), timeout_s=ask.facts.timeout_s)


async def costs(handles: Handles, config: ClusterConfig, tag: str) -> dict[Size, Measured]:
    """Of every size alone, and how the others' company changes that."""
    alone = {size: await measure(handle, size, config.sizes[size], tag) for size, handle in handles.items()}
    found = {}
    for size, each in alone.items():
        others = [handle for other, handle in handles.items() if other is not size]
        first_s, token_s = await crowding(handles[size], others, f"{tag}{size}")
        speed = each.speed
        stretched = token_s / (speed.step_s + speed.decode_s_per_sequence)
        own_s = each.hop_s + speed.step_s + SHORT * speed.prefill_s_per_token
        found[size] = replace(each, crowded=max(1.0, stretched), crowded_hop=max(1.0, first_s / own_s))
    return found


def simulated(asks: list[Ask], config: ClusterConfig, measured: dict[Size, Measured], processors: float) -> Result:
    rules, _ = rules_for(config)
    sizes = {
        size: SizeFleet(
            each.speed, config.sizes[size].usd_per_mtoken, 1, processors=each.processors, crowded=each.crowded
        )
        for size, each in measured.items()
    }
    hop_s = float(np.mean([each.hop_s for each in measured.values()]))
    fleet = Fleet(sizes, hop_s=hop_s, processors=processors, window_tokens=WINDOW_TOKENS)
    return simulate(asks, fleet, rules, Options(exact=True))


def rows(lived: list[Lived], result: Result, seconds: float) -> list[Row]:
    found = result.summaries()
    every = found[ALL]
    done = [each for each in lived if each.answered]
    ttft = [each.ttft_s for each in done]
    total = [each.total_s for each in done]
    made = [
        Row("TTFT p50, ms", 1e3 * float(np.quantile(ttft, 0.5)), 1e3 * every.ttft_p50_s),
        Row("TTFT p90, ms", 1e3 * float(np.quantile(ttft, 0.9)), 1e3 * every.ttft_p90_s),
        Row("TTFT p99, ms", 1e3 * float(np.quantile(ttft, 0.99)), 1e3 * every.ttft_p99_s),
        Row("answer p50, ms", 1e3 * float(np.quantile(total, 0.5)), 1e3 * every.total_p50_s),
        Row("answer p99, ms", 1e3 * float(np.quantile(total, 0.99)), 1e3 * every.total_p99_s),
        Row("goodput, 1/s", len(done) / seconds, every.answered / seconds),
    ]
    for size in Size:
        made.append(Row(f"answered by {size}", sum(each.size == size for each in done), every.sizes[size]))
    return made


async def run(options: argparse.Namespace, console: Console) -> dict:
    config = config_of()
    asks = asks_of(config, options)
    tokens = [ask.facts.prompt_tokens for ask in asks]
    console.print(
        f"{len(asks)} requests in {options.seconds:.0f} s, prompts of {np.mean(tokens):.0f} tokens on average"
    )
    async with family(config) as (handles, _), routed(config, handles) as router:
        before = await costs(handles, config, "b")
        lived = await live(router, asks)
    result = simulated(asks, config, before, options.processors)
    table = Table(box=None)
    for head in ("", "live", "simulated", "ratio"):
        table.add_column(head, justify="right")
    made = rows(lived, result, options.seconds)
    for row in made:
        table.add_row(row.name, f"{row.live:.1f}", f"{row.simulated:.1f}", f"{row.ratio:.2f}")
    console.print(table)
    for size, each in before.items():
        s = each.speed
        parts = (
            f"step {s.step_s * 1e3:.2f} ms", f"prompt token {s.prefill_s_per_token * 1e6:.0f} µs",
            f"sequence {s.decode_s_per_sequence * 1e3:.2f} ms", f"hop {each.hop_s * 1e3:.1f} ms",
            f"{each.processors:.2f} processors", f"crowded {each.crowded:.2f}, a short prompt {each.crowded_hop:.2f}",
        )  # fmt: skip
        console.print(f"{size}: {', '.join(parts)}")
    measured = {str(size): asdict(each) for size, each in before.items()}
    return {"rows": [asdict(row) for row in made], "measured": measured, "lived": [asdict(each) for each in lived]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--rate", type=float, default=3.0, help="requests per second on average")
    parser.add_argument("--begin", type=float, default=900.0, help="second of the trace")
    parser.add_argument("--stretch", type=float, default=600.0, help="seconds of the trace that are thinned")
    parser.add_argument("--scale", type=float, default=0.25, help="of prompts and answers")
    parser.add_argument("--longest", type=int, default=900)
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--processors", type=float, default=float(os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(run(options, Console(width=120)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
