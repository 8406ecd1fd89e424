"""The picture of `benchmarks.scaling`: what came, what was there for it, and how long it took."""

from collections import Counter
from pathlib import Path
from typing import Any

_COLOURS = {"2b": "tab:green", "9b": "tab:blue", "27b": "tab:red"}
_BIN_S = 10


def plot(found: dict[str, Any], path: Path) -> None:
    """Three rows over one axis of time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (rate, replicas, ttft) = pyplot.subplots(3, 1, figsize=(9, 6.5), sharex=True, layout="constrained")
    asks, looks = found["asks"]["scaled"], found["looks"]["scaled"]
    came = Counter(int(at_s // _BIN_S) for at_s, *_ in asks)
    rate.step([each * _BIN_S for each in sorted(came)], [came[each] / _BIN_S for each in sorted(came)], where="post")
    rate.set_ylabel("requests/s")
    for size, colour in _COLOURS.items():
        times = [look["at_s"] for look in looks]
        replicas.step(
            times, [look["target"][size] for look in looks], where="post", color=colour, label=f"{size} target"
        )
        replicas.step(
            times, [look["running"][size] for look in looks], where="post", color=colour, ls=":", label="running"
        )
    if fixed := found["looks"].get("fixed"):
        replicas.axhline(fixed[0]["taken"], color="tab:gray", ls="--", label="fixed, all sizes")
    replicas.step(
        [look["at_s"] for look in looks], [look["taken"] for look in looks], where="post", color="k", label="devices"
    )
    replicas.set_ylabel("replicas")
    replicas.legend(fontsize=6, ncols=4)
    for kept, colour in ((True, "tab:gray"), (False, "tab:red")):
        some = [(at_s, ttft_s) for at_s, ttft_s, is_kept in asks if is_kept is kept and ttft_s is not None]
        label = "promise kept" if kept else "not kept"
        ttft.plot([x for x, _ in some], [y for _, y in some], ".", markersize=2.5, color=colour, label=label)
    ttft.set_yscale("log")
    ttft.set_ylabel("TTFT, s")
    ttft.set_xlabel("seconds")
    ttft.legend(fontsize=6)
    figure.savefig(path, dpi=130)
