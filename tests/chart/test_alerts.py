"""Each alert played by promtool: it fires on what it is for, and is silent on what looks a little like it."""

from pathlib import Path

import pytest

from tests.chart import monitoring, tools
from tests.chart.tools import Tree

Series = dict[str, str]
LONG = 240  # samples of 15 s: an hour
pytestmark = pytest.mark.skipif(
    monitoring.program("promtool") is None, reason="ALERTS WERE NOT PLAYED: run sh scripts/prometheus.sh"
)


def own(name: str, **labels: str) -> str:
    return series(name, "models/gemmule", pod="pod-a", instance="10.0.0.1:8000", **labels)


def series(name: str, job: str, **labels: str) -> str:
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in {"job": job, **labels}.items()) + "}"


def steady(value: float) -> str:
    return f"{value}x{LONG}"


def growing(by: float) -> str:
    """By so much every 15 s."""
    return f"0+{by}x{LONG}"


def ended(ok: float, **codes: float) -> Series:
    """Requests that end every 15 s, of tier auto."""
    return {
        own("gemmule_requests_total", code=code, size="9b", tier="auto"): growing(number)
        for code, number in {"ok": ok, **codes}.items()
    }


def replicas(there: float, least: float = 1, target: float = 1, ongoing: float = 0, slots: float = 32) -> Series:
    return {
        own("gemmule_replicas", size="9b"): steady(there),
        own("gemmule_replica_bounds", size="9b", bound="min"): steady(least),
        own("gemmule_scaling_replicas", size="9b", state="running"): steady(there),
        own("gemmule_scaling_replicas", size="9b", state="target"): steady(target),
        own("gemmule_ongoing_requests", size="9b"): steady(ongoing),
        own("gemmule_slots", size="9b"): steady(slots),
    }


def first_tokens(fast: float, slow: float) -> Series:
    """First tokens every 15 s: within a second, and within five."""
    at = {"1": fast, "5": fast + slow, "+Inf": fast + slow}
    return {own("gemmule_ttft_seconds_bucket", tier="auto", size="9b", le=le): growing(by) for le, by in at.items()}


def engine(running: float, steps: float, replica: str = "9b#1") -> Series:
    where = {"size": "9b", "replica": replica}
    return {
        own("gemmule_engine_running", **where): steady(running),
        own("gemmule_engine_steps_total", **where): growing(steps),
    }


def passing(names: int) -> Series:
    """So many replicas, each there for two minutes, one after the other; then a gap of none."""
    return {
        own("gemmule_engine_steps_total", size="9b", replica=f"9b#{index}"): f"_x{8 * index} 1x8 _x{LONG}"
        for index in range(names)
    }


def promise(promised: float, high: float) -> Series:
    return {
        own("gemmule_promise_share", tier="auto", bound=bound): steady(share)
        for bound, share in {"promised": promised, "high": high}.items()
    }


def waived(value: float) -> Series:
    return {own("gemmule_promise_waived", tier="auto"): steady(value)}


SIZE, TIER = {"size": "9b"}, {"tier": "auto"}
# Alert: minutes until it must fire, what fires it, what does not, its labels, and what it says.
CASES: dict[str, tuple[int, Series, Series, Series, str]] = {
    "GemmuleGone": (
        6,
        {series("gemmule_in_flight_requests", "models/other"): steady(0)},
        {own("gemmule_in_flight_requests"): steady(0)},
        {"job": "models/gemmule"},
        "No ingress process shows its numbers; nobody may be served.",
    ),
    "GemmuleSizeDown": (
        6,
        replicas(0),
        replicas(0, least=0),  # asleep
        SIZE,
        "Size 9b has no replica that can serve.",
    ),
    "GemmuleFailing": (
        16,
        ended(95, replica_lost=3, internal_error=2),
        ended(99, internal_error=1, aborted=20, overloaded=20),
        {},
        "5% of requests end with an error of the service.",
    ),
    "GemmuleStuck": (
        8,
        engine(running=3, steps=0),
        {**engine(running=0, steps=0), **engine(running=3, steps=0.2, replica="9b#2")},
        {**SIZE, "replica": "9b#1"},
        "Replica 9b#1 holds sequences and has made no step for minutes.",
    ),
    "GemmuleRefusing": (
        21,
        ended(90, overloaded=6, not_ready=4),
        ended(96, overloaded=4),
        TIER,
        "10% of tier auto's requests find no room or no replica.",
    ),
    "GemmuleLate": (
        21,
        ended(95, deadline_exceeded=5),
        ended(99, deadline_exceeded=1),
        TIER,
        "5% of tier auto's requests miss their deadline.",
    ),
    "GemmuleSlowFirstToken": (
        21,
        first_tokens(fast=80, slow=20),
        first_tokens(fast=96, slow=4),
        TIER,
        "5 % of tier auto's first tokens take longer than 4s.",
    ),
    "GemmuleFull": (
        16,
        replicas(2, target=2, ongoing=80, slots=64),
        replicas(1, target=2, ongoing=80, slots=32),  # another one will come
        SIZE,
        "Size 9b has every replica that scaling gives it, and more requests than they decode at once.",
    ),
    "GemmuleReplicasMissing": (
        31,
        replicas(1, target=2),
        replicas(2, target=2),
        SIZE,
        "Size 9b has had fewer replicas than scaling gave it for half an hour.",
    ),
    "GemmuleReplicasDying": (
        30,
        {**replicas(1), **passing(7)},
        {**replicas(1), **passing(3)},
        SIZE,
        "6 replicas of size 9b have gone within half an hour.",
    ),
    "GemmulePromiseBroken": (
        31,
        promise(0.95, 0.93),
        promise(0.95, 0.96),
        TIER,
        "Tier auto surely keeps less than the quality it promises.",
    ),
    "GemmulePromiseWaived": (
        16,
        waived(1),
        waived(0),
        TIER,
        "Tier auto's promise has been waived under load for a quarter of an hour.",
    ),
}


def played(minutes: int, given: Series, alert: str, expected: list[Tree]) -> Tree:
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in given.items()],
        "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": expected}],
    }


def test_every_alert_is_played() -> None:
    assert list(CASES) == list(monitoring.alerts("minimal"))


@pytest.mark.parametrize("name", CASES)
def test_it_fires_on_what_it_is_for_and_on_nothing_else(name: str, tmp_path: Path) -> None:
    minutes, firing, quiet, labels, summary = CASES[name]
    (rules,) = tools.of_kind(monitoring.objects("minimal"), "PrometheusRule")
    rule = monitoring.alerts("minimal")[name]
    expected = {
        "exp_labels": {**rule["labels"], **labels},
        "exp_annotations": {**rule["annotations"], "summary": summary},
    }
    tests = [played(minutes, firing, name, [expected]), played(minutes, quiet, name, [])]
    both = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests}
    monitoring.checked(tmp_path, "test rules", {"tests.yaml": both, "rules.yaml": rules["spec"]})
