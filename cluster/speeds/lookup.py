"""The speed of one replica: as measured, else as calculated, else none. Pure."""

from collections.abc import Iterator

from cluster.speed import Speed
from cluster.speeds.file import Device, Mark, Row, Speeds, SpeedsError
from cluster.speeds.roofline import calculated
from model.checkpoint import shape_of
from model.config import Quantization, Size
from model.memory import degrees


def device_of(speeds: Speeds, kind: str) -> Device:
    """Raises `SpeedsError` naming the kinds that are known."""
    try:
        return speeds.devices[kind]
    except KeyError:
        known = ", ".join(speeds.devices)
        raise SpeedsError(f"device {kind!r} is not in the file of speeds; it has {known}") from None


def speed_of(
    speeds: Speeds, size: Size, kind: str, degree: int, quantization: Quantization | None
) -> tuple[Speed, Mark] | None:
    """None where it does not fit, or was neither measured nor can be calculated. Raises `SpeedsError`."""
    device = device_of(speeds, kind)
    for row in speeds.measured:
        if (row.size, row.device, row.degree, row.quantization) == (size, kind, degree, quantization):
            return as_speed(row), Mark.MEASURED
    if speeds.assumed is None:
        return None
    found = calculated(size, degree, quantization, kind, device, speeds.assumed)
    return None if found is None else (found, Mark.CALCULATED)


def degrees_of(speeds: Speeds, size: Size, kind: str) -> Iterator[int]:
    """Degrees worth asking for: those that were measured, and where it can be calculated all that copy no KV head."""
    measured = {row.degree for row in speeds.measured if row.size is size and row.device == kind}
    known = set(degrees(shape_of(size))) if speeds.assumed is not None else set()
    yield from sorted(measured | known)


def as_speed(row: Row) -> Speed:
    """Without its origin."""
    names = Speed.__dataclass_fields__
    return Speed(**{name: getattr(row, name) for name in names})
