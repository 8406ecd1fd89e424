"""The pieces of a Grafana dashboard, as the JSON that Grafana 11 and later read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

Json = dict[str, Any]

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_COLUMNS: Final = 24
_HEIGHT: Final = 8


Values = str | tuple[str, ...]


def series(metric: str, **labels: Values) -> str:
    """Of gemmule's own page, with these labels; several values are any of them."""
    return _series(metric, '"$job"', labels)


def of_ray(metric: str, **labels: Values) -> str:
    """Of Ray's agents."""
    return _series(metric, '"${job}-ray"', labels)


def _series(metric: str, job: str, labels: Mapping[str, Values]) -> str:
    wanted = [f"job={job}"]
    for name, value in labels.items():
        wanted.append(f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"')
    return f"{metric}{{{', '.join(wanted)}}}"


def once(expr: str) -> str:
    """Each series once: the same page is read through every pod that can show it."""
    return f"max without (pod, instance) ({expr})"


def total(expr: str, by: str = "") -> str:
    """The sum, by these labels."""
    return f"sum by ({by}) ({expr})" if by else f"sum ({expr})"


def rate(metric: str, by: str = "", **labels: Values) -> str:
    """Of a counter a second, summed by these labels."""
    return total(once(f"rate({series(metric, **labels)}[$__rate_interval])"), by)


def now(metric: str, by: str, **labels: Values) -> str:
    """Of a gauge that every ingress process shows for the whole service: what the highest sees."""
    return f"max by ({by}) ({series(metric, **labels)})"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Of a histogram, by these labels."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le')})"


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot over time, or with `single` the last value alone. `told` is what the reader should make of it."""

    title: str
    told: str
    unit: str
    expr: str
    name: str  # of its lines
    width: int = 8
    stacked: bool = False
    single: bool = False

    def json(self, number: int, x: int, y: int) -> Json:
        """Grafana's own form."""
        custom = {"fillOpacity": 40 if self.stacked else 5, "stacking": {"mode": "normal" if self.stacked else "none"}}
        return {
            "id": number,
            "type": "stat" if self.single else "timeseries",
            "title": self.title,
            "description": self.told,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": _HEIGHT // 2 if self.single else _HEIGHT},
            "fieldConfig": {
                "defaults": {"unit": self.unit, "min": 0, **({} if self.single else {"custom": custom})},
                "overrides": [],
            },
            "options": {} if self.single else {"tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [{"refId": "A", "datasource": _SOURCE, "expr": self.expr, "legendFormat": self.name}],
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `name` is its file and uid."""

    name: str
    title: str
    rows: tuple[Row, ...]

    def panels(self) -> Iterable[Panel]:
        """All of them, in their order."""
        return (panel for row in self.rows for panel in row.panels)

    def json(self) -> Json:
        """Grafana's own form."""
        return {
            "uid": self.name,
            "title": self.title,
            "tags": ["gemmule"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": _VARIABLES},
            "links": [{"type": "dashboards", "tags": ["gemmule"], "title": "gemmule", "asDropdown": True}],
            "panels": list(_placed(self.rows)),
        }


def _placed(rows: Iterable[Row]) -> Iterable[Json]:
    numbers, y = count(1), 0
    for row in rows:
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {
            "id": next(numbers),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            found = panel.json(next(numbers), x, y)
            x, tallest = x + panel.width, max(tallest, found["gridPos"]["h"])
            yield found
        y += tallest


_VARIABLES: Final[list[Json]] = [
    {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
    {
        "name": "job",
        "label": "service",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(gemmule_in_flight_requests, job)", "refId": "job"},
        "refresh": 2,
    },
]
