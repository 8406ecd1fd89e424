"""Write `helm/gemmule/dashboards/*.json`, which the chart puts into ConfigMaps for Grafana.

usage: python helm/generate_dashboards.py [--check]
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "gemmule" / "dashboards"
sys.path.insert(0, str(FOLDER.parents[2]))  # the code beside this file, installed or not

from helm.dashboards.engine import ENGINE  # noqa: E402
from helm.dashboards.overview import OVERVIEW  # noqa: E402
from helm.dashboards.scaling import SCALING  # noqa: E402

BOARDS = (OVERVIEW, ENGINE, SCALING)


def files() -> dict[str, str]:
    """Name of every file, and its text."""
    return {f"{board.name}.json": json.dumps(board.json(), indent=1, ensure_ascii=False) + "\n" for board in BOARDS}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say whether they are current."""
    wanted = files()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if "--check" in arguments:
        if wanted != there:
            print("helm/gemmule/dashboards is not what the code says; run `make dashboards`", file=sys.stderr)
        return int(wanted != there)
    for name in there.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
