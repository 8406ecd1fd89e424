"""What an upgrade changes in the rendered manifests, small enough to be read in a review.

`python -m tests.chart.golden_diffs` writes them anew; what they are then is to be looked at, not only committed.
"""

import difflib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart import tools
from tests.chart.tools import Tree

FOLDER: Final = Path(__file__).parent / "golden"
SETS: Final = ("cpu-demo", "8xh100")
CHANGES: Final[dict[str, Tree]] = {
    "image": {"image": {"tag": "9.9.9"}},
    "price-and-bounds": tools.nested(
        "config.cluster.sizes.9b", {"usd_per_mtoken": 0.5, "replicas": {"min_replicas": 0, "max_replicas": 2}}
    ),
    "spot-pool": {"pools": [{"name": "27b-spot", "sizes": ["27b"], "max": 2, "nodeSelector": {"market": "spot"}}]},
    "chart-version": {},
}


def diff(name: str, change: str) -> str:
    """One change of one value set, object by object."""
    old = _objects_of(tools.template(name).stdout)
    with tempfile.TemporaryDirectory() as folder:
        chart = _renamed(Path(folder)) if change == "chart-version" else tools.CHART
        new = _objects_of(tools.template(name, values=CHANGES[change], chart=chart).stdout)
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        lines += list(_between(key, old.get(key, []), new.get(key, [])))
    return "".join(f"{line}\n" for line in lines)


def _between(key: str, old: list[str], new: list[str]) -> Iterator[str]:
    found = list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]
    if found:
        yield f"== {key}"
        yield from (line for line in found if not line.startswith("@@"))


def _objects_of(rendered: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in rendered.split("\n---\n"):
        item: Any = yaml.load(text, yaml.CSafeLoader)
        if item:
            lines = [line.rstrip() for line in text.splitlines() if not line.startswith(("# Source:", "---"))]
            found[f"{item['kind']} {item['metadata']['name']}"] = [line for line in lines if line]
    return found


def _renamed(folder: Path) -> Path:
    """The chart as its next version."""
    chart = shutil.copytree(tools.CHART, folder / "gemmule")
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9", "appVersion": "9.9.9"}))
    return chart


def main() -> int:
    """Write every diff."""
    FOLDER.mkdir(exist_ok=True)
    for name in SETS:
        for change in CHANGES:
            (FOLDER / f"{name}.{change}.diff").write_text(diff(name, change), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
