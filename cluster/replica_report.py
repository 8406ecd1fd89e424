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

    @classmethod
    def of(cls, load: EngineLoad, names: list[int], complete: bool) -> Self:
        """Free memory is rounded down."""
        step = max(1, load.total_kv_tokens // _STEPS)
        free = load.free_kv_tokens // step * step
        return cls(load.running + load.waiting, free, load.total_kv_tokens, pack(names), complete)

    def fields(self) -> dict[str, Any]:
        """As Serve wants it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def read(cls, stats: Mapping[str, Any]) -> Self | None:
        """None while a replica has told nothing."""
        return cls(**stats) if stats else None
