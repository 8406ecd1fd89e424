"""Where ingress processes and the policy in Serve's controller leave each other word: Ray's key-value store.

A few small values a second. An actor would do the same and be one more process that can be lost; routing stats and
autoscaling stats go one way only, and are numbers. The store's functions are not public: Ray is pinned.
"""

import uuid
from typing import Final

from pydantic import TypeAdapter
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_list, _internal_kv_put

from cluster.config import ClusterConfig
from cluster.scaling.report import IngressReport
from cluster.scaling.verdict import Verdict

_REPORT: Final = TypeAdapter(IngressReport)
_VERDICT: Final = TypeAdapter(Verdict)


class Board:
    """Of one application. Every call asks the store, a millisecond or so."""

    def __init__(self, application: str) -> None:
        self._space = f"gemmule-scaling-{application}"

    def tell(self, report: IngressReport) -> None:
        """An ingress process's facts, in the place of those before."""
        self._put(f"report/{report.process}", _REPORT.dump_json(report))

    def reports(self) -> list[IngressReport]:
        """Of all ingress processes, those that ended as well until somebody forgets them."""
        keys = _internal_kv_list("report/", namespace=self._space)
        texts = [_internal_kv_get(key, namespace=self._space) for key in keys]
        return [_REPORT.validate_json(text) for text in texts if text]

    def forget(self, process: str) -> None:
        """An ingress process that reports no more."""
        _internal_kv_del(f"report/{process}", namespace=self._space)

    def settle(self, config: ClusterConfig) -> None:
        """The settings that scaling shall go by."""
        self._put("settings", config.model_dump_json().encode())

    def settings(self) -> bytes | None:
        """As last settled, JSON; None before the first ingress process is up."""
        found: bytes | None = _internal_kv_get("settings", namespace=self._space)
        return found

    def decide(self, verdict: Verdict) -> None:
        """What every size shall have."""
        self._put("verdict", _VERDICT.dump_json(verdict))

    def verdict(self) -> Verdict | None:
        """The last; None while nothing was decided."""
        text = _internal_kv_get("verdict", namespace=self._space)
        return _VERDICT.validate_json(text) if text else None

    def _put(self, key: str, value: bytes) -> None:
        _internal_kv_put(key, value, overwrite=True, namespace=self._space)


def process_name() -> str:
    """A name for this process on the board."""
    return uuid.uuid4().hex[:12]
