"""Choosing replicas by prefix against Serve's power of two: a conversation trace on a real Ray, and replayed without.

usage: python benchmarks/replica_choice.py TRACE [--requests 600] [--block-tokens 64] [--seconds 90] [--kv-tokens 24576]
       [--replicas 4] [--rounds 2] [--processors 2] [--seed 1] [--replay-only JSON] [--json FILE] [--plot FILE]

Both choices get the same requests at the same instants, by turns, each time with fresh replicas. Then the same choice
and the same schedulers replay them on a virtual clock, with the seconds of a forward pass as one engine has them here
alone. TTFT is from the instant at which a request is due, so that a client that comes late is seen too.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster import environment

environment.prepare()  # Ray reads some of it when it is imported

from conversations import load, request_of  # noqa: E402
from ray import serve  # noqa: E402
from ray.serve.handle import DeploymentHandle  # noqa: E402

from cluster.build import engine_of  # noqa: E402
from cluster.config import (  # noqa: E402
    EMBEDDED_SIZES,
    AutoscaleConfig,
    ClusterConfig,
    ReplicaChoice,
    RoutingConfig,
)
from cluster.local import ray_here  # noqa: E402
from cluster.routing.choice import Offer  # noqa: E402
from cluster.simulation.ask import Ask  # noqa: E402
from cluster.simulation.asking import rules_for  # noqa: E402
from cluster.simulation.fleet import Fleet, SizeFleet  # noqa: E402
from cluster.simulation.simulator import Options, simulate  # noqa: E402
from cluster.snapshot import Hello, RouteFacts  # noqa: E402
from cluster.speed import Speed  # noqa: E402
from cluster.trace import TraceRequest  # noqa: E402
from model.config import EngineConfig, Size  # noqa: E402
from model.events import Event, Failed, Finished, TokenEvent  # noqa: E402
from model.request import GenerationRequest, RequestId, SamplingParams  # noqa: E402
from model.source import EMBEDDED_FOLDER  # noqa: E402

APP = "choice"
WINDOW_TOKENS = 256  # of nano-2b
REPLAYS = 5  # of power of two, which draws
LENGTHS = (64, 512, 1024, 2048, 4096)  # prompts by which an engine's seconds are measured


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds as measured on this machine."""

    step_s: float  # each step, whatever is in it
    prefill_s: float  # each token of a prompt
    decode_s: float  # each token of an answer
    hop_s: float  # from the client to the engine and back
    processors: float  # that all replicas share; one can use one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request."""

    replica: str
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One run, measured or replayed."""

    choice: str
    where: str
    cached_share: float
    ttft_p50_s: float
    ttft_p99_s: float
    ttft_mean_s: float
    spread: tuple[int, ...]  # requests of each replica


def row(choice: str, where: str, outcomes: list[Outcome]) -> Row:
    ttft = sorted(each.ttft_s for each in outcomes)
    cached = sum(each.cached_tokens for each in outcomes) / sum(each.prompt_tokens for each in outcomes)
    spread = tuple(sorted(Counter(each.replica for each in outcomes).values()))
    return Row(choice, where, cached, statistics.median(ttft), at(ttft, 0.99), statistics.mean(ttft), spread)


def at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def config_of(choice: ReplicaChoice, options: argparse.Namespace) -> ClusterConfig:
    bounds = AutoscaleConfig(min_replicas=options.replicas, max_replicas=options.replicas)
    size = EMBEDDED_SIZES[Size.B2].model_copy(update={"engine": engine_config(options), "replicas": bounds})
    routing = RoutingConfig(replica_choice=choice, queue_tokens=options.queue_tokens)
    return ClusterConfig(sizes={Size.B2: size}, routing=routing)


def engine_config(options: argparse.Namespace) -> EngineConfig:
    return EngineConfig(kv_tokens=options.kv_tokens, max_running=options.slots)


@contextmanager
def replicas(config: ClusterConfig) -> Iterator[Any]:
    """A handle to fresh replicas."""
    app = engine_of(Size.B2, config.sizes[Size.B2], config)
    serve.run(app, name=APP, route_prefix=None)
    # Not the handle that `run` returns: Serve keeps it by name, and with it the router of the run before (Ray 2.60).
    yield DeploymentHandle(str(Size.B2), APP).options(stream=True)
    serve.delete(APP)


ROUTERS = {
    ReplicaChoice.POWER_OF_TWO: "PowerOfTwoChoicesRequestRouter",
    ReplicaChoice.PREFIX: "ReplicaRouter",
}


def check_router(handle: Any, choice: ReplicaChoice) -> None:
    """Raise if something else than what is to be measured chooses; private names of Ray 2.60."""
    router = getattr(handle._router, "_asyncio_router", handle._router)
    if (name := type(router._active_request_router).__name__) != ROUTERS[choice]:
        raise RuntimeError(f"{choice} is to be measured and {name} chooses")


async def answer(events: AsyncIterator[Hello | Event], due_s: float) -> Outcome:
    """Of a stream, whoever it comes from."""
    replica, ttft_s = "", 0.0
    async for event in events:
        match event:
            case Hello():
                replica = event.replica
            case TokenEvent() if not ttft_s:
                ttft_s = time.perf_counter() - due_s
            case Failed():
                raise RuntimeError(event.fault.message)
            case Finished():
                return Outcome(replica, event.usage.prompt_tokens, event.usage.cached_tokens, ttft_s)
    raise RuntimeError("a stream ended without a last event")


async def play(handle: Any, arrivals: list[TraceRequest]) -> list[Outcome]:
    """Send everything when it is due."""
    requests = [request_of(number, arrival) for number, arrival in enumerate(arrivals)]
    began_s = time.perf_counter() + 0.5

    async def one(arrival: TraceRequest, request: GenerationRequest) -> Outcome:
        due_s = began_s + arrival.at_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        return await answer(handle.generate.remote(request), due_s)

    return await asyncio.gather(*map(one, arrivals, requests))


def a_prompt(name: str, tokens: int, max_tokens: int) -> GenerationRequest:
    """One that nobody has seen."""
    rng = random.Random(name)
    ids = (2, *(rng.randrange(364, 1700) for _ in range(tokens - 1)))
    return GenerationRequest(RequestId(name), ids, SamplingParams(max_tokens, 0.0, ignore_eos=True), 300.0, salt=name)


async def hop(handle: Any) -> float:
    """Seconds to the first token of a short prompt through the idle cluster."""
    seconds = []
    for number in range(30):
        began_s = time.perf_counter()
        seconds.append((await answer(handle.generate.remote(a_prompt(f"h{number}", 16, 1)), began_s)).ttft_s)
    return statistics.median(seconds)


async def costs_of(config: EngineConfig, processors: float) -> Costs:
    """An engine alone in this process. `hop_s` is still to come."""
    from model.engine import Engine

    engine = Engine(EMBEDDED_FOLDER / "nano-2b", config, threads=1)
    await engine.start()

    async def seconds(name: str, tokens: int, max_tokens: int, together: int) -> float:
        began_s = time.perf_counter()
        asks = [a_prompt(f"{name}{number}", tokens, max_tokens) for number in range(together)]
        await asyncio.gather(*(answer(engine.submit(ask), began_s) for ask in asks))
        return time.perf_counter() - began_s

    def median(runs: list[float]) -> float:
        return statistics.median(runs)

    async def decode(together: int) -> float:
        """A step that decodes so many."""
        pairs = [
            (await seconds(f"l{together}-{n}-", 16, 65, together), await seconds(f"s{together}-{n}-", 16, 1, together))
            for n in range(5)
        ]
        return median([(long_s - short_s) / 64 for long_s, short_s in pairs])

    one_s, eight_s = await decode(1), await decode(8)
    decode_s = max(0.0, (eight_s - one_s) / 7)
    step_s = one_s - decode_s
    reads = [(n, median([await seconds(f"p{n}-{k}", n, 1, 1) for k in range(5)])) for n in LENGTHS]
    prefill = [(took_s - -(-n // config.max_step_tokens) * step_s) / n for n, took_s in reads]
    await engine.close()
    return Costs(step_s, statistics.mean(prefill[1:]), decode_s, 0.0, processors)


def measure(options: argparse.Namespace, arrivals: list[TraceRequest]) -> tuple[list[Row], float]:
    rows, hops = [], []
    choices = (ReplicaChoice.POWER_OF_TWO, ReplicaChoice.PREFIX)
    with ray_here(config_of(ReplicaChoice.PREFIX, options)):
        serve.start(proxy_location="Disabled")
        for turn in range(options.rounds):
            for choice in choices if turn % 2 == 0 else reversed(choices):
                with replicas(config_of(choice, options)) as handle:
                    hops.append(asyncio.run(hop(handle)))
                    check_router(handle, choice)
                    rows.append(row(choice, "measured", asyncio.run(play(handle, arrivals))))
                    print(line(rows[-1]), flush=True)
    return rows, statistics.median(hops)


def replay(options: argparse.Namespace, arrivals: list[TraceRequest], costs: Costs) -> list[Row]:
    engine = engine_config(options)
    speed = Speed(
        Size.B2, "cpu", 1, None, costs.step_s, costs.prefill_s, costs.decode_s, 0.0,
        engine.max_running, engine.kv_tokens, engine.max_step_tokens,
    )  # fmt: skip
    sizes = {Size.B2: SizeFleet(speed, 1.0, options.replicas, max_ongoing=len(arrivals))}
    fleet = Fleet(sizes, hop_s=costs.hop_s, processors=costs.processors, window_tokens=WINDOW_TOKENS)

    def run(choice: ReplicaChoice, seed: int) -> list[Outcome]:
        config = config_of(choice, options)
        patient = config.routing.model_copy(update={"max_load": float(len(arrivals))})  # nobody is refused
        rules, _ = rules_for(config.model_copy(update={"routing": patient}))
        result = simulate(map(ask, range(len(arrivals)), arrivals), fleet, rules, Options(exact=True, seed=seed))
        out = result.outcomes
        return list(map(Outcome, out.replica, out.prompt_tokens, out.cached_tokens, out.ttft_s))

    drawn = [run(ReplicaChoice.POWER_OF_TWO, options.seed + number) for number in range(REPLAYS)]
    chosen = run(ReplicaChoice.PREFIX, options.seed)
    rows = [row(ReplicaChoice.POWER_OF_TWO, "replayed", outcomes) for outcomes in drawn]
    return [*rows, row(ReplicaChoice.PREFIX, "replayed", chosen)]


def ask(number: int, asked: TraceRequest) -> Ask:
    """For its size by name."""
    offers = (Offer(Size.B2, 1.0, 1.0, asked.output_tokens),)
    facts = RouteFacts(Size.B2, None, offers, asked.prompt_tokens, asked.output_tokens)
    length = {Size.B2: asked.output_tokens}
    return Ask(number, asked.at_s, facts, length, frozenset(), asked.blocks, asked.block_tokens)


def line(each: Row) -> str:
    spread = " ".join(map(str, each.spread))
    return (
        f"| {each.choice} | {each.where} | {each.cached_share:.1%} | {each.ttft_p50_s * 1000:.0f} "
        f"| {each.ttft_p99_s * 1000:.0f} | {each.ttft_mean_s * 1000:.0f} | {spread} |"
    )


def summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Medians over rounds, and what prefix choice is of power of two."""
    result: dict[str, dict[str, float]] = {}
    for where in dict.fromkeys(each.where for each in rows):
        both = {
            choice: {
                name: statistics.median(getattr(each, name) for each in rows if (each.where, each.choice) == key)
                for name in ("cached_share", "ttft_p50_s", "ttft_p99_s")
            }
            for choice in ReplicaChoice
            for key in [(where, choice)]
        }
        two, prefix = both[ReplicaChoice.POWER_OF_TWO], both[ReplicaChoice.PREFIX]
        result[where] = {
            "power_of_two_cached_share": two["cached_share"],
            "prefix_cached_share": prefix["cached_share"],
            "ttft_p50_ratio": prefix["ttft_p50_s"] / two["ttft_p50_s"],
            "ttft_p99_ratio": prefix["ttft_p99_s"] / two["ttft_p99_s"],
        }
    return result


def plot(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    titles = {"cached_share": "prompt tokens found cached", "ttft_p50_s": "TTFT p50, s", "ttft_p99_s": "TTFT p99, s"}
    groups = list(dict.fromkeys((each.where, each.choice) for each in rows))
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        values = [[getattr(each, name) for each in rows if (each.where, each.choice) == group] for group in groups]
        colours = ["tab:gray" if choice == ReplicaChoice.POWER_OF_TWO else "tab:blue" for _, choice in groups]
        axis.bar(range(len(groups)), [statistics.median(group) for group in values], color=colours, alpha=0.6)
        for place, group in enumerate(values):
            axis.plot([place] * len(group), group, "k.", markersize=4)
        axis.set_xticks(range(len(groups)), [f"{choice}\n{where}" for where, choice in groups], fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, help="mooncake_conversation_trace.jsonl.gz")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--block-tokens", type=int, default=64, help="that a block of 512 becomes")
    parser.add_argument("--seconds", type=float, default=90.0, help="that the trace's hour becomes")
    parser.add_argument("--max-prompt-tokens", type=int, default=7000)
    parser.add_argument("--kv-tokens", type=int, default=24_576, help="of each replica")
    parser.add_argument("--slots", type=int, default=16, help="requests that a replica decodes at once")
    parser.add_argument("--queue-tokens", type=int, default=RoutingConfig().queue_tokens)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processors", type=float, default=os.cpu_count(), help="that the replayed replicas share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay-only", type=Path, help="a --json of before, whose seconds are taken")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    arrivals = load(
        options.trace, options.requests, options.block_tokens, options.seconds, options.max_prompt_tokens, options.seed
    )
    tokens = [each.prompt_tokens for each in arrivals]
    print(f"{len(arrivals)} requests in {options.seconds:.0f} s, prompts of {statistics.mean(tokens):.0f} tokens, "
          f"{max(tokens)} at most, {options.replicas} replicas of {options.kv_tokens} tokens")  # fmt: skip
    print("| choice | | cached | TTFT p50 ms | p99 ms | mean ms | requests by replica |\n|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    if options.replay_only:
        costs = Costs(**json.loads(options.replay_only.read_text())["costs"])
    else:
        costs = asyncio.run(costs_of(engine_config(options), options.processors))
        rows, hop_s = measure(options, arrivals)
        costs = Costs(**{**asdict(costs), "hop_s": max(0.0, hop_s - costs.step_s - 16 * costs.prefill_s)})
    replayed = replay(options, arrivals, costs)
    for each in replayed:
        print(line(each))
    rows += replayed
    print(json.dumps({"costs": asdict(costs), "summary": summary(rows)}, indent=1))
    if options.json:
        told = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        told["trace"] = options.trace.name
        del told["json"], told["plot"]
        found = {"options": told, "requests": len(arrivals), "prompt_tokens": sum(tokens), "costs": asdict(costs)}
        found |= {"summary": summary(rows), "rows": [asdict(each) for each in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
