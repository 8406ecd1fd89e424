"""Plans on three public traces: what they cost beside one size alone, and whether a replay keeps what they promise.

python -m benchmarks.planning FOLDER [--json FILE]

FOLDER holds the traces under their public names. Nothing is measured on a GPU: speeds are calculated from data sheets,
prices are the examples of `cluster/speeds/published.json`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.config import DEFAULT_TIERS, ClusterConfig, Tier
from cluster.forecast import profile_of
from cluster.planning.capacity import Slo
from cluster.planning.demand import Demand, demand_of, demand_of_rates
from cluster.planning.planner import Planner, Wish, late_share, only
from cluster.planning.problem import FleetPlan
from cluster.planning.replay import Replay, replayed
from cluster.planning.settings import settings_of
from cluster.speeds.file import read_speeds
from cluster.trace import TraceRequest
from cluster.traces import Rates, arrivals, read_rates, read_trace
from model.config import Quantization, Size
from serving.cli.plan_words import plan_json, summary

SLO = Slo(0.95, ttft_s=2.0, tpot_s=0.1)
TRAFFIC = {Tier.ECONOMY: 0.3, Tier.BALANCED: 0.3, Tier.AUTO: 0.25, Tier.PREMIUM: 0.15}
PROMISES = {tier: DEFAULT_TIERS[tier].quality_share for tier in TRAFFIC}
WINDOW_S = 30.0
RATES_SHARE = 0.005  # of the table's requests, so that hours can be replayed
RATES_S = 6 * 3600.0
DEVICES = {"h100": ("h100-80gb",), "all kinds": ("h100-80gb", "a100-80gb", "a100-40gb", "l4-24gb")}


@dataclass(frozen=True)
class Trace:
    name: str
    requests: Sequence[TraceRequest]
    demand: Demand


def traces(folder: Path) -> list[Trace]:
    late = late_share(SLO)
    azure = read_trace(folder / "AzureLLMInferenceTrace_conv_2023.csv.gz")
    mooncake = read_trace(folder / "mooncake_conversation_trace.jsonl.gz")
    rates = busiest(read_rates(folder / "m-small_rate_600s.csv"))
    drawn = arrivals(rates, azure, seed=0, share=RATES_SHARE)
    return [
        Trace("azure conversation 2023", azure, demand_of(azure, WINDOW_S, late)),
        Trace("mooncake conversation", mooncake, demand_of(mooncake, WINDOW_S, late)),
        Trace("m-small, busiest 6 h", drawn, demand_of_rates(rates, azure, late, RATES_SHARE)),
    ]


def busiest(rates: Rates) -> Rates:
    """The hours with the most requests."""
    step_s = rates.at_s[1] - rates.at_s[0]
    count = int(RATES_S / step_s)
    totals = [sum(rates.per_s[place : place + count]) for place in range(len(rates.per_s) - count + 1)]
    begin = rates.at_s[totals.index(max(totals))]
    return rates.part(begin, begin + RATES_S)


def planner() -> Planner:
    settings = ClusterConfig()
    routing = settings.routing.model_copy(update={"profile": "gemma-2"})
    return Planner(read_speeds(), profile_of(settings.model_copy(update={"routing": routing})))


def row(trace: Trace, devices: str, plans: Planner) -> dict[str, Any]:
    began_s = time.perf_counter()
    wish = Wish(
        trace.demand, SLO, TRAFFIC, PROMISES, tuple(Size), (None, Quantization.INT8), dict.fromkeys(DEVICES[devices])
    )
    planned = plans.plan(wish)
    took_s = time.perf_counter() - began_s
    alone = {size: plan for size in Size if (plan := only(planned, size)) is not None}
    cheapest = min(alone.values(), key=lambda plan: plan.usd_per_hour)
    if planned.plan is None:
        raise SystemExit(f"no plan for {trace.name} on {devices}")
    return {
        "trace": trace.name,
        "devices": devices,
        "planned_for_per_s": trace.demand.per_s,
        "mean_per_s": trace.demand.mean_per_s,
        "left_out_share": trace.demand.left_out_share,
        "seconds": took_s,
        "plan": plan_json(planned.plan),
        "words": summary(planned.plan),
        "alone": {size: plan_json(plan) for size, plan in alone.items()},
        "alone_words": summary(cheapest),
        "saved_share": 1 - planned.plan.usd_per_hour / cheapest.usd_per_hour,
        "replay": replay(planned.plan, trace, cached=True),
        "replay_nothing_cached": replay(planned.plan, trace, cached=False) if trace.requests[0].blocks else None,
    }


def replay(plan: FleetPlan, trace: Trace, cached: bool) -> dict[str, Any]:
    settings = settings_of(plan, DEFAULT_TIERS, "gemma-2")
    return asdict(replayed(plan, settings, trace.requests, Replay(TRAFFIC, SLO, cached)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    plans, rows = planner(), []
    for trace in traces(given.folder):
        for devices in DEVICES:
            found = row(trace, devices, plans)
            rows.append(found)
            kept = [found[name]["share"] for name in ("replay", "replay_nothing_cached") if found[name]]
            alone = min(each["usd_per_hour"] for each in found["alone"].values())
            shares = " ".join(f"{share:.3f}" for share in kept)
            usd = found["plan"]["usd_per_hour"]
            cells = (trace.name, devices, f"{trace.demand.per_s:.2f}/s", found["words"], f"{usd:.2f}")
            cells = (*cells, found["alone_words"], f"{alone:.2f}", f"{found['saved_share']:.0%}", shares)
            print(*cells, sep=" | ", flush=True)
            if given.json:
                given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
