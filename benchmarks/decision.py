"""What one decision costs by the number of replicas: `python -m benchmarks.decision [--json FILE] [--plot FILE]`.

No Ray. The size by `choose`, on three sizes whose paces are known, and the replica by `Chooser`, with conversations
that have been there before. `all` is the choice among every replica, as it was before few were looked at and as it
still is for a retry. Cost is processor time; medians over `--rounds`.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster.chooser import Chooser, Prompt, Seen
from cluster.config import ClusterConfig
from cluster.policy import choose
from cluster.replica_choice import PromptFacts
from cluster.replica_report import ReplicaReport
from cluster.simulation.asking import Asking, prospects_of, rules_for
from cluster.snapshot import Pace, SizeState, Snapshot
from cluster.trace import TraceRequest
from model.contract import EngineLoad

COUNTS = (10, 20, 50, 100, 200, 500, 1000)
CONVERSATIONS = 100
BLOCKS = 60  # of 16 tokens, of a prompt
SLOTS = 32


@dataclass(frozen=True, slots=True)
class Row:
    """Microseconds of one decision; shares of prompts' blocks that the chosen replica has."""

    replicas: int
    size_us: float
    replica_us: float
    replica_all_us: float
    found_share: float
    found_all_share: float


def prompts(seed: int) -> list[Prompt]:
    """Conversations with one system prompt of ten blocks for all."""
    rng = random.Random(seed)
    system = tuple(range(1, 11))
    made = []
    for number in range(CONVERSATIONS):
        own = tuple(rng.getrandbits(60) for _ in range(BLOCKS - len(system)))
        made.append(Prompt(PromptFacts(BLOCKS * 16, "", number), system + own))
    return made


def fleet(count: int, rng: random.Random) -> dict[str, Seen]:
    stats = ReplicaReport.of(EngineLoad(0, 0, 60_000, 65_536), [], False).fields()
    return {f"r{place}": Seen(f"r{place}", rng.randrange(SLOTS // 2), stats) for place in range(count)}


def replica_choice(count: int, everyone: bool, rounds: int) -> tuple[float, float]:
    """Microseconds, and the share of blocks found again at a conversation's second turn."""
    rng, chooser = random.Random(1), Chooser(SLOTS, 256)
    seen = fleet(count, rng)
    names = list(seen)
    chooser.keep(names)
    took, found, asked = [], 0, 0
    where: dict[int, str] = {}
    for turn in range(1 + rounds):
        for number, prompt in enumerate(prompts(0)):
            began_s = time.process_time()
            key = (turn, number)
            candidates = None if everyone else chooser.candidates(key, prompt)
            looked = list(seen.values()) if candidates is None else [seen[name] for name in candidates]
            replica = chooser.order(key, prompt, looked, float(turn))[0]
            chooser.sent(key, replica, float(turn))
            took.append((time.process_time() - began_s) * 1e6)
            if turn:
                asked += 1
                found += where[number] == replica
            where[number] = replica
    return statistics.median(took), found / asked


def size_choice(count: int, rounds: int) -> float:
    config = ClusterConfig()
    rules, profile = rules_for(config)
    asking = Asking(prospects_of(profile), config.sizes)
    asks = [ask.facts for ask in asking(TraceRequest(0.0, 400, 60) for _ in range(500))]
    pace = Pace(0.05, 1e-4, 0.01, 1.0, 1.6)
    states = tuple(
        SizeState(size, count, count * 8, count * SLOTS, 8192, sized.usd_per_mtoken, pace=pace)
        for size, sized in config.sizes.items()
    )
    return timed(lambda number: choose(asks[number % len(asks)], Snapshot(states), rules), 500 * rounds)


def timed(call: Callable[[int], object], times: int) -> float:
    took = []
    for number in range(times):
        began_s = time.process_time()
        call(number)
        took.append((time.process_time() - began_s) * 1e6)
    return statistics.median(took)


def measure(rounds: int) -> list[Row]:
    rows = []
    for count in COUNTS:
        few, found = replica_choice(count, everyone=False, rounds=rounds)
        everyone, found_all = replica_choice(count, everyone=True, rounds=rounds)
        rows.append(Row(count, size_choice(count, rounds), few, everyone, found, found_all))
    return rows


def plot(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    counts = [row.replicas for row in rows]
    axes.plot(counts, [row.size_us + row.replica_us for row in rows], "o-", label="size and replica")
    axes.plot(counts, [row.replica_us for row in rows], "o--", label="replica")
    axes.plot(counts, [row.size_us for row in rows], "o--", label="size")
    axes.plot(
        counts, [row.replica_all_us for row in rows], "o:", color="tab:gray", label="replica, every one looked at"
    )
    axes.set(xscale="log", yscale="log", xlabel="replicas", ylabel="µs of a processor", title="one decision")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = measure(options.rounds)
    table = Table(box=None)
    for head in ("replicas", "size µs", "replica µs", "of all µs", "back at its replica", "of all"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            str(row.replicas), f"{row.size_us:.0f}", f"{row.replica_us:.0f}", f"{row.replica_all_us:.0f}",
            f"{row.found_share:.1%}", f"{row.found_all_share:.1%}",
        )  # fmt: skip
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
