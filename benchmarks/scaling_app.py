"""The application of `benchmarks.scaling`: the same graph and engine, each replica as if it had a device of its own.

Replicas on this machine share its processors, so a second one would bring nothing. Here a step takes at least `STEP_S`,
which is waited for and not computed, as a processor waits for a GPU: replicas add up as long as the processors keep up.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cluster.build import frame
from cluster.config import ReplicaChoice
from cluster.sized_replica import SizedReplica
from model.config import Size
from serving.ingress import Ingress

STEP_S: Final = 0.04


class _Paced:
    """A stepper whose steps take at least `STEP_S`."""

    def __init__(self, stepper: Any) -> None:
        self._stepper = stepper

    def step(self) -> bool:
        began_s = time.monotonic()
        stepped: bool = self._stepper.step()
        if stepped:
            time.sleep(max(0.0, began_s + STEP_S - time.monotonic()))
        return stepped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stepper, name)


class PacedReplica(SizedReplica):
    """A replica with such a stepper."""

    async def _start_engine(self, folder: Path) -> None:
        await super()._start_engine(folder)
        self._engine._stepper = _Paced(self._engine._stepper)


def build_app(args: Mapping[str, Any]) -> Any:
    """As `serving.ingress.build_app`."""
    choice = ReplicaChoice(args["replica_choice"])
    return frame({Size(size): degree > 1 for size, degree in args["sizes"].items()}, choice, Ingress, PacedReplica)
