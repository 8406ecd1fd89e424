"""What another set of chart values does to a release, setting by setting: each is rendered alone, by helm."""

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.change import Change, Kind, changes_of, differences
from cluster.kuberay import Verdict, verdict
from serving.config import from_tree

Tree = dict[str, Any]
CHART: Final = Path("helm/gemmule")
_OF: Final = {
    Verdict.NONE: Kind.LIVE,
    Verdict.IN_PLACE: Kind.LIVE,
    Verdict.IN_PLACE_AND_LATER: Kind.LIVE,
    Verdict.LATER: Kind.LATER,
    Verdict.APPENDED: Kind.LIVE,
    Verdict.NEW_CLUSTER: Kind.SECOND_CLUSTER,
    Verdict.IGNORED: Kind.IGNORED,
    Verdict.OTHER: Kind.REFUSED,
}
_HEAVIER: Final = (Kind.SECOND_CLUSTER, Kind.IGNORED, Kind.REFUSED)


class ChartError(Exception):
    """Helm is not there, or refuses the values; the message says which."""


class Chart:
    """Renders the values of one release; equal ones once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._defaults: Tree = yaml.safe_load((folder / "values.yaml").read_text(encoding="utf-8"))
        self._known: dict[str, Tree] = {}

    def whole(self, values: Mapping[str, Any]) -> Tree:
        """With the chart's defaults, as Helm lays values over them: a null takes a default away."""
        whole: Tree = _laid(self._defaults, values)
        return whole

    def service(self, values: Tree) -> Tree:
        """The RayService; raises `ChartError` with Helm's message."""
        key = json.dumps(values, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._rendered(values)
        return self._known[key]

    def _rendered(self, values: Tree) -> Tree:
        helm = os.environ.get("HELM") or shutil.which("helm")
        if helm is None:
            raise ChartError("values are rendered by helm: put it on the PATH, or its path into HELM")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(_nulled(self._defaults, values), file)
            file.flush()
            asked = [helm, "template", "gemmule", str(self._folder), "-n", "gemmule", "--values", file.name]
            asked += ["--api-versions", "ray.io/v1/RayService", "--kube-version", "1.37"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        if done.returncode:
            raise ChartError(done.stderr.strip())
        return next(each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "RayService")


def chart_changes(before: Mapping[str, Any], after: Mapping[str, Any], chart: Chart) -> list[Change]:
    """Of two sets of values as they are written. Raises `ChartError`, and `ConfigError` for their `config`."""
    old, new = chart.whole(before), chart.whole(after)
    both = verdict(chart.service(old), chart.service(new))
    settings = {f"config.{each.path}": each for each in _settings_changes(old, new)}
    found = []
    for path, was, is_ in differences(old, new):
        fate = _alone(old, path, is_, chart, both)
        setting = settings.get(path)
        if setting is None or fate in _HEAVIER:
            found.append(Change(path, was, is_, fate))
        else:
            found.append(replace(setting, path=path))
    return found


def _alone(old: Tree, path: str, value: Any, chart: Chart, both: Verdict) -> Kind:
    """Of one setting; where it cannot be rendered without the others, what all of them do together."""
    one = copy.deepcopy(old)
    *parents, leaf = path.split(".")
    node = one
    for name in parents:
        node = node.setdefault(name, {})
    if value is None:
        node.pop(leaf, None)
    else:
        node[leaf] = value
    try:
        return _OF[verdict(chart.service(old), chart.service(one))]
    except ChartError:
        return _OF[both]


def _settings_changes(old: Tree, new: Tree) -> list[Change]:
    trees = (from_tree(values["config"]).model_dump(mode="json") for values in (old, new))
    before, after = trees
    return changes_of(before, after)


def _laid(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return copy.deepcopy(above)
    laid = {name: copy.deepcopy(value) for name, value in below.items()}
    for name, value in above.items():
        if value is None:
            laid.pop(name, None)
        else:
            laid[name] = _laid(below.get(name), value)
    return laid


def _nulled(defaults: Any, values: Any) -> Any:
    """Values that give these when Helm lays them over the defaults."""
    if not isinstance(defaults, Mapping) or not isinstance(values, Mapping):
        return values
    gone: Tree = dict.fromkeys(defaults.keys() - values.keys())
    return gone | {name: _nulled(defaults.get(name), value) for name, value in values.items()}
