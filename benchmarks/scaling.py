"""Replicas that follow the load: `python -m benchmarks.scaling TRACE [--seconds 600] [--json FILE] [--plot FILE]`.

A conversation trace, sped up to `--seconds` and thinned to a tide (low, rising, high, falling, low again), comes
through the REST face of the embedded family on a private Ray, open loop. The sizes scale under one budget; with
`--fixed 2b=2,9b=2,27b=1` each has so many replicas for the whole time, and the result goes beside that of before. A
request's promise is kept when its first token comes within `--ttft` seconds of the instant it was due, from the size
it wanted or a larger one.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

from cluster.environment import prepare

prepare()  # before Ray is imported

import httpx  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.scaling_plot import plot  # noqa: E402
from cluster.config import ClusterConfig, Tier  # noqa: E402
from cluster.deploying import serve_config  # noqa: E402
from cluster.forecast import Forecast, profile_of  # noqa: E402
from cluster.local import Endpoint, ray_here, run  # noqa: E402
from cluster.policy import first_choice  # noqa: E402
from cluster.promise_watch import PromiseWatch  # noqa: E402
from cluster.routing.features import Text  # noqa: E402
from cluster.rules import rules_of  # noqa: E402
from cluster.snapshot import RouteFacts, SizeState, Snapshot  # noqa: E402
from cluster.trace import TraceRequest  # noqa: E402
from cluster.trace_shape import sped_up  # noqa: E402
from cluster.traces import read_trace  # noqa: E402
from model.config import CONTEXT_TOKENS, Size  # noqa: E402
from model.family.tasks.generator import evaluation_tasks  # noqa: E402
from model.prompt import Prompter, Role, Turn  # noqa: E402
from model.source import EMBEDDED_FOLDER  # noqa: E402
from serving.config import Settings, from_tree  # noqa: E402
from serving.ingress import GRPC_SERVICER_FUNCTIONS, application  # noqa: E402

MIX: Final = {Tier.ECONOMY: 0.35, Tier.BALANCED: 0.3, Tier.AUTO: 0.2, Tier.PREMIUM: 0.15}
TIDE: Final = (
    (0.0, 0.12),
    (0.2, 0.12),
    (0.4, 1.0),
    (0.65, 1.0),
    (0.85, 0.12),
    (1.0, 0.12),
)  # share of time, of the peak
STEADY: Final = ((0.05, 0.2), (0.45, 0.65), (0.9, 1.0))  # stretches in which it neither rises nor falls
HTTP, GRPC = 18180, 19190
SLOTS: Final = 2
BOUNDS: Final = {"2b": ("nano-2b", 0.10, 1, 4), "9b": ("nano-9b", 0.35, 0, 3), "27b": ("nano-27b", 1.04, 0, 2)}
ANSWER_TOKENS: Final = (8, 40)
OUTPUT_SCALE: Final = 0.15


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, when it is due, and the size it wants."""

    at_s: float
    tier: Tier
    wanted: Size
    messages: list[dict[str, str]]
    tokens: int


@dataclass(slots=True)
class Got:
    """What became of it."""

    at_s: float
    tier: str
    wanted: str
    size: str = ""
    reason: str = ""
    status: int = 0
    ttft_s: float | None = None
    took_s: float = 0.0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """All sizes at one instant."""

    at_s: float
    target: dict[str, int]
    running: dict[str, int]
    taken: float


@dataclass(slots=True)
class Run:
    """One way to provision."""

    name: str
    got: list[Got] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)


def settings_of(seconds: float, budget: float, fixed: Mapping[str, int] | None) -> Settings:
    """Scaling at the pace of the tide, or `fixed` numbers of replicas."""
    sizes = {}
    for name, (checkpoint, usd, least, most) in BOUNDS.items():
        bounds = {"min_replicas": least, "max_replicas": most} if fixed is None else _always(fixed[name])
        pace = {"upscale_delay_s": 2, "downscale_delay_s": seconds / 30}
        sizes[name] = {
            "source": f"embedded:{checkpoint}", "usd_per_mtoken": usd, "cpus_per_rank": 0.01,
            "engine": {"max_running": SLOTS}, "replicas": bounds | pace,
        }  # fmt: skip
    routing = {"guard": {"action": "off"}}
    tiers = {str(tier): {"quality_share": share, "cascade": "off"} for tier, share in _SHARES.items()}
    scaling = {
        "budget_devices": budget, "window_s": max(5, seconds / 30), "catch_up_s": 10, "sleep_after_s": seconds / 10,
    }  # fmt: skip
    cluster = {"sizes": sizes, "tiers": tiers, "routing": routing, "scaling": scaling}
    return from_tree({"server": {"http_port": HTTP, "grpc_port": GRPC}, "cluster": cluster})


_SHARES: Final = {tier: config.quality_share for tier, config in ClusterConfig().tiers.items()}


def _always(num: int) -> dict[str, int]:
    return {"min_replicas": num, "max_replicas": max(1, num)}


def tide(share: float) -> float:
    """Share of the peak at a share of the time."""
    for (from_, low), (until, high) in pairwise(TIDE):
        if share <= until:
            return low + (high - low) * (share - from_) / (until - from_)
    return TIDE[-1][1]


def asks_of(trace: Sequence[TraceRequest], seconds: float, peak_per_s: float, config: ClusterConfig) -> list[Ask]:
    """The trace as a tide, with prompts of the family's tasks, since routing reads texts and the trace has none."""
    length_s = trace[-1].at_s or 1.0
    fast = sped_up(trace, length_s / seconds)
    rng, keep = Random(5), peak_per_s * seconds / len(fast)
    wants, asks = _Wants(config), []
    tasks = [list(task.messages) for task in evaluation_tasks(300, 1)]
    for each in fast:
        if rng.random() >= min(1.0, keep * tide(each.at_s / seconds)):
            continue
        tier = rng.choices(list(MIX), list(MIX.values()))[0]
        messages = rng.choice(tasks)
        tokens = min(ANSWER_TOKENS[1], max(ANSWER_TOKENS[0], round(each.output_tokens * OUTPUT_SCALE)))
        asks.append(Ask(each.at_s, tier, wants.of(messages, tier, tokens), messages, tokens))
    return asks


class _Wants:
    """Which size a request would get if all were up and free; the code that serves says so."""

    def __init__(self, config: ClusterConfig) -> None:
        profile = profile_of(config)
        prices = {size: sized.usd_per_mtoken for size, sized in config.sizes.items()}
        self._forecast = Forecast(profile, prices)
        self._rules = rules_of(config, profile, self._forecast, PromiseWatch(_SHARES))
        self._prompter = Prompter(EMBEDDED_FOLDER / "nano-2b" / "tokenizer.json")
        self._all = Snapshot(tuple(SizeState(size, 1, 0, 99, CONTEXT_TOKENS, usd) for size, usd in prices.items()))

    def of(self, messages: Sequence[Mapping[str, Any]], tier: Tier, max_tokens: int) -> Size:
        turns = [Turn(Role(str(message["role"])), str(message["content"])) for message in messages]
        asked = [turn.text for turn in turns if turn.role is Role.USER]
        text = Text(asked[-1], len(self._prompter.chat(turns)), len(asked))
        offers = self._forecast.offers(text, max_tokens)
        size = first_choice(RouteFacts(None, tier, offers, text.prompt_tokens, max_tokens), self._all, self._rules)
        assert size is not None
        return size


async def play(asks: Sequence[Ask], seconds: float, name: str, console: Console) -> Run:
    """Everything when it is due, and a look at the sizes every second."""
    played = Run(name)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{HTTP}", timeout=120, limits=limits) as client:
        began_s = time.perf_counter() + 0.5
        watch = asyncio.create_task(_watch(client, began_s, played))
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(f"{name}: {len(asks)} requests", total=len(asks))
            async with asyncio.TaskGroup() as group:
                for ask in asks:
                    await asyncio.sleep(max(0.0, began_s + ask.at_s - time.perf_counter()))
                    group.create_task(_one(client, ask, began_s, played))
                    bar.advance(task)
        await asyncio.sleep(max(0.0, began_s + seconds - time.perf_counter()))
        watch.cancel()
        played.moves = (await client.get("/v1/status")).json()["scaling"]["moves"]
    return played


async def _one(client: httpx.AsyncClient, ask: Ask, began_s: float, played: Run) -> None:
    due_s, got = began_s + ask.at_s, Got(ask.at_s, str(ask.tier), str(ask.wanted))
    played.got.append(got)
    body = {
        "model": str(ask.tier), "messages": ask.messages, "max_tokens": ask.tokens, "min_tokens": ask.tokens,
        "temperature": 0, "stream": True, "ignore_eos": True,
    }  # fmt: skip
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            got.status = answer.status_code
            async for line in answer.aiter_lines():
                _read(line, got, due_s)
    except httpx.HTTPError as error:
        got.reason = type(error).__name__
    got.took_s = time.perf_counter() - due_s


def _read(line: str, got: Got, due_s: float) -> None:
    if not line.startswith("data: "):
        return
    if line == "data: [DONE]":
        got.whole = got.status == 200
        return
    chunk = json.loads(line[6:])
    if route := chunk.get("gemmule"):
        got.size, got.reason = route.get("size", got.size), route.get("reason", got.reason)
    if got.ttft_s is None and any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
        got.ttft_s = time.perf_counter() - due_s


async def _watch(client: httpx.AsyncClient, began_s: float, played: Run) -> None:
    while True:
        sizes = (await client.get("/v1/status")).json()["scaling"]["sizes"]
        now = {each["size"]: each for each in sizes}
        taken = sum(each["devices"] * (each["running"] + each["starting"] + each["draining"]) for each in sizes)
        played.looks.append(
            Look(
                time.perf_counter() - began_s,
                {name: each["target"] for name, each in now.items()},
                {name: each["running"] for name, each in now.items()},
                taken,
            )
        )
        await asyncio.sleep(1.0)


def served(settings: Settings, asks: Sequence[Ask], seconds: float, name: str, console: Console) -> Run:
    """One run on a Ray of its own."""
    endpoint = Endpoint("127.0.0.1", HTTP, GRPC, GRPC_SERVICER_FUNCTIONS)
    with ray_here(settings.cluster):
        config = serve_config(application(settings), settings.cluster, "benchmarks.scaling_app:build_app")
        run(config, endpoint, lambda _progress: None)
        return asyncio.run(_when_ready(asks, seconds, name, console))


async def _when_ready(asks: Sequence[Ask], seconds: float, name: str, console: Console) -> Run:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{HTTP}", timeout=10) as client:
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - a server has no event
            await asyncio.sleep(0.5)
        await asyncio.sleep(3.0)
    return await play(asks, seconds, name, console)


_ORDER: Final = {str(size): place for place, size in enumerate((Size.B2, Size.B9, Size.B27))}


def is_kept(got: Got, ttft_s: float) -> bool:
    """In time, from the size that was wanted or a larger one, and whole."""
    in_time = got.whole and got.ttft_s is not None and got.ttft_s <= ttft_s
    return in_time and _ORDER.get(got.size, -1) >= _ORDER[got.wanted]


def facts_of(played: Run, seconds: float, ttft_s: float) -> dict[str, Any]:
    """One run in numbers."""
    got, ttft = played.got, sorted(each.ttft_s for each in played.got if each.ttft_s is not None)
    taken = sum(one.taken * (next_.at_s - one.at_s) for one, next_ in pairwise(played.looks))
    return {
        "requests": len(got),
        "kept_share": sum(is_kept(each, ttft_s) for each in got) / len(got),
        "kept_share_by_tier": {
            str(tier): _share([is_kept(each, ttft_s) for each in got if each.tier == tier]) for tier in MIX
        },
        "ttft_p50_s": ttft[len(ttft) // 2],
        "ttft_p99_s": ttft[int(0.99 * len(ttft))],
        "smaller_than_wanted": sum(each.whole and _ORDER.get(each.size, 9) < _ORDER[each.wanted] for each in got),
        "refused": sum(each.status == 429 for each in got),
        "server_errors": sum(each.status >= 500 for each in got),
        "broken": sum(not each.whole and each.status in (0, 200) for each in got),
        "replica_seconds": round(taken, 1),
        "most_replicas": {name: max(look.target[name] for look in played.looks) for name in BOUNDS},
        "turns": {name: turns([(look.at_s, look.target[name]) for look in played.looks]) for name in BOUNDS},
        "turns_in_steady_load": {
            name: [
                turns([(look.at_s, look.target[name]) for look in played.looks if a <= look.at_s / seconds <= b])
                for a, b in STEADY
            ]
            for name in BOUNDS
        },
        "woken": [move for move in played.moves if move["before"] == 0],
    }


def turns(series: Sequence[tuple[float, int]]) -> int:
    """Changes of direction."""
    steps = [b - a for (_, a), (_, b) in pairwise(series) if a != b]
    return sum(1 for one, next_ in pairwise(steps) if one * next_ < 0)


def _share(of: Sequence[bool]) -> float:
    return sum(of) / len(of) if of else 1.0


def table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """For people."""
    made = Table(box=None, pad_edge=False, padding=(0, 2))
    for head in ("provisioning", "promises kept", "TTFT p50 / p99", "refused", "5xx", "replica-seconds", "turns"):
        made.add_column(head, justify="right")
    for name, row in rows.items():
        made.add_row(
            name, f"{row['kept_share']:.1%}", f"{row['ttft_p50_s']:.2f} / {row['ttft_p99_s']:.2f} s",
            str(row["refused"]), str(row["server_errors"]), f"{row['replica_seconds']:.0f}", str(row["turns"]),
        )  # fmt: skip
    return made


def main() -> None:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trace", type=Path, help="conversation trace, such as AzureLLMInferenceTrace_conv_2023.csv.gz")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--peak", type=float, default=6.0, help="requests per second at high tide")
    parser.add_argument("--budget", type=float, default=6.0, help="devices")
    parser.add_argument("--ttft", type=float, default=1.0, help="seconds that are promised")
    parser.add_argument("--fixed", help="as 2b=3,9b=2,27b=1: only this provisioning, beside a --json of before")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    console = Console(stderr=True)
    asks = asks_of(
        read_trace(args.trace), args.seconds, args.peak, settings_of(args.seconds, args.budget, None).cluster
    )
    found: dict[str, Any] = {"options": {**vars(args), "trace": args.trace.name}, "runs": {}, "looks": {}, "asks": {}}
    if args.fixed:
        found = json.loads(args.json.read_text())
        fixed = {name: int(num) for name, num in (part.split("=") for part in args.fixed.split(","))}
        plans: list[tuple[str, Mapping[str, int] | None]] = [("fixed", fixed)]
    else:
        plans = [("scaled", None)]
    for name, fixed_ in plans:
        budget = args.budget if fixed_ is None else max(args.budget, sum(fixed_.values()))
        played = served(settings_of(args.seconds, budget, fixed_), asks, args.seconds, name, console)
        found["runs"][name] = facts_of(played, args.seconds, args.ttft)
        found["looks"][name] = [asdict(look) for look in played.looks]
        found["asks"][name] = [
            [round(g.at_s, 2), g.ttft_s and round(g.ttft_s, 3), is_kept(g, args.ttft)] for g in played.got
        ]
    Console().print(table(found["runs"]))
    if args.json:
        args.json.write_text(json.dumps(found, default=str) + "\n")
    if args.plot:
        plot(found, args.plot)


if __name__ == "__main__":
    main()
