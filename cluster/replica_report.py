"""What a replica tells routers about once a second, as Serve's routing stats carry it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from model.contract import EngineLoad
from model.marks import pack

_STEPS = 16  # free memory is told in so many steps: every changed report is sent to every router


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One replica's load, room and cache."""

    ongoing: int
    free_kv_tokens: int
    total_kv_tokens: int
    marks: bytes = b""  # `model.marks.pack`
    complete: bool = True  # False: the cache has more marks than these
    slots: int = 0  # requests that it decodes at once; 0 not told
    queue_tokens: int = 0  # cached prompt tokens that outweigh a request in its queue; 0 not told
    leaving: bool = False  # it takes nothing new

    @classmethod
    def of(
        cls,
        load: EngineLoad,
        names: list[int],
        complete: bool,
        slots: int = 0,
        queue_tokens: int = 0,
        leaving: bool = False,
    ) -> Self:
        """Free memory is rounded down."""
        step = max(1, load.total_kv_tokens // _STEPS)
        free = load.free_kv_tokens // step * step
        ongoing, marks = load.running + load.waiting, pack(names)
        return cls(ongoing, free, load.total_kv_tokens, marks, complete, slots, queue_tokens, leaving)

    def fields(self) -> dict[str, Any]:
        """As Serve wants it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def read(cls, stats: Mapping[str, Any]) -> Self | None:
        """None while a replica has told nothing."""
        return cls(**stats) if stats else None
