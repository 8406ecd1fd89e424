"""Which replicas a size may have: device kind, degree and precision that fit, and what each carries. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.planning.capacity import Bound, Slo, carried
from cluster.planning.demand import Demand
from cluster.speed import Speed
from cluster.speeds.file import Mark, Speeds
from cluster.speeds.lookup import degrees_of, device_of, speed_of
from cluster.speeds.roofline import engine_of, need_of, usable_bytes
from model.checkpoint import shape_of
from model.config import Quantization, Size
from model.fit import Room, remedies

_GB: Final = 1e9
_WHOLE_BITS: Final = 16.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a size. `per_s`: requests that one replica carries within the SLO."""

    speed: Speed
    mark: Mark
    usd_per_hour: float  # of one replica
    per_s: float
    bound: Bound

    @property
    def bits(self) -> float:
        """Of a weight; fewer may cost quality that nobody measured on real weights."""
        return _WHOLE_BITS if self.speed.quantization is None else self.speed.quantization.bits

    @property
    def precision(self) -> str:
        """As it is asked for."""
        return precision_name(self.speed.quantization)


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way that cannot be, and why in words: it does not fit, or it fits and keeps no SLO."""

    size: Size
    device: str
    degree: int
    quantization: Quantization | None
    why: str
    fits: bool


def precision_name(quantization: Quantization | None) -> str:
    """`bf16`, `int8` or `int4`."""
    return "bf16" if quantization is None else str(quantization)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What candidates may be made of."""

    kinds: tuple[str, ...]
    precisions: tuple[Quantization | None, ...]


def candidates(
    speeds: Speeds, size: Size, wanted: Wanted, demand: Demand, slo: Slo
) -> tuple[tuple[Candidate, ...], tuple[Misfit, ...]]:
    """All that carry something, without those that another one beats in every way; and all that cannot be."""
    able: list[Candidate] = []
    unable: list[Misfit] = []
    for found in _all(speeds, size, wanted, demand, slo):
        if isinstance(found, Candidate):
            able.append(found)
        else:
            unable.append(found)
    return unbeaten(able), tuple(unable)


def unbeaten(able: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Without those for which another of the same kind takes no more devices and bits and carries no less.

    Of equals the first stays. The cheapest plan is the same: any plan with a beaten one is no dearer with its better.
    """
    return tuple(
        each
        for place, each in enumerate(able)
        if not any(
            _beats(other, each) and not (_beats(each, other) and place < before)
            for before, other in enumerate(able)
            if before != place
        )
    )


def _beats(one: Candidate, other: Candidate) -> bool:
    return (
        one.speed.device == other.speed.device
        and one.speed.degree <= other.speed.degree
        and one.per_s >= other.per_s
        and one.bits >= other.bits
    )


def _all(speeds: Speeds, size: Size, wanted: Wanted, demand: Demand, slo: Slo) -> Iterator[Candidate | Misfit]:
    for kind in wanted.kinds:
        usd_per_hour = device_of(speeds, kind).usd_per_hour.value
        for degree in degrees_of(speeds, size, kind):
            for quantization in wanted.precisions:
                found = speed_of(speeds, size, kind, degree, quantization)
                if found is None:
                    why = _too_large(speeds, size, kind, degree, quantization)
                    yield Misfit(size, kind, degree, quantization, why, fits=False)
                else:
                    yield _judged(*found, usd_per_hour * degree, demand, slo)


def _judged(speed: Speed, mark: Mark, usd_per_hour: float, demand: Demand, slo: Slo) -> Candidate | Misfit:
    where = (speed.size, speed.device, speed.degree, speed.quantization)
    longest = demand.lengths.longest
    if speed.kv_tokens < longest:
        why = f"has room for {speed.kv_tokens:,} tokens beside the weights, the longest request has {longest:,}"
        return Misfit(*where, why, fits=False)
    found = carried(speed, demand.lengths, slo, demand.bursts)
    if found.per_s <= 0:
        return Misfit(*where, f"{found.share:.1%} of lone requests keep the SLO; bound by {found.bound}", fits=True)
    return Candidate(speed, mark, usd_per_hour, found.per_s, found.bound)


def _too_large(speeds: Speeds, size: Size, kind: str, degree: int, quantization: Quantization | None) -> str:
    if speeds.assumed is None:
        return "was not measured"
    usable = usable_bytes(device_of(speeds, kind), speeds.assumed)
    total, engine = (
        need_of(size, degree, quantization, speeds.assumed).total_bytes,
        engine_of(quantization, speeds.assumed.max_step_tokens),
    )
    cures = "; ".join(remedies(shape_of(size), degree, engine, Room(usable))) or "take a larger device"
    return f"needs {total / _GB:.1f} GB on each device, {usable / _GB:.1f} GB of it are usable: {cures}"
