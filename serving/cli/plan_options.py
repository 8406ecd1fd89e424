"""What is typed after `gemmule plan`, as values; a mistake is named with its option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cluster.config import Tier
from cluster.planning.capacity import Slo
from cluster.speeds.file import Figure, Mark, Speeds
from model.config import Quantization, Size

_TIMES: Final = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}
_PRECISIONS: Final = {"bf16": None, "int8": Quantization.INT8, "int4": Quantization.INT4}
_SURE: Final = 1e-6

Name = TypeVar("Name")
Value = TypeVar("Value")


class OptionError(ValueError):
    """Which option, what was given, what is right."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The command's options as typed."""

    trace: Path
    gpus: str
    slo: str
    mix: str
    sizes: str
    precision: str
    speeds: str
    prices: tuple[str, ...]
    lengths: Path | None
    scale: float
    window_s: float
    check: bool
    json: bool
    values: Path | None
    plot: Path | None


def read_slo(text: str) -> Slo:
    """`ttft=2,tpot=0.1,e2e=30,share=0.95`: seconds, and the share of requests that keep all of them."""
    given = _pairs("--slo", text, {**{name: name for name in _TIMES}, "share": "share"}, float)
    share = given.pop("share", 0.95)
    if not given:
        raise OptionError(f"--slo: {text!r} has no time; give one of {', '.join(_TIMES)} in seconds")
    if not 0 < share < 1:
        raise OptionError(f"--slo: share={share:g} has to lie between 0 and 1")
    if min(given.values()) <= 0:
        raise OptionError(f"--slo: {text!r} has a time that is not above 0")
    return Slo(share, **{_TIMES[name]: value for name, value in given.items()})


def read_mix(text: str) -> dict[Tier, float]:
    """`economy=0.3,…`: which part of the requests buys which tier; in sum 1."""
    given = _pairs("--mix", text, {str(tier): tier for tier in Tier}, float)
    kept = {tier: share for tier, share in given.items() if share > 0}
    if abs(sum(given.values()) - 1) > _SURE or min(given.values(), default=-1) < 0:
        raise OptionError(f"--mix: the shares of {text!r} are {sum(given.values()):g} in sum; they have to be 1")
    return kept


def read_gpus(text: str, speeds: Speeds) -> dict[str, int | None]:
    """`h100-80gb:8,l4-24gb`: kinds of devices, and how many there are; without a number as many as it takes."""
    found: dict[str, int | None] = {}
    for part in _parts(text):
        kind, colon, count = part.partition(":")
        if kind not in speeds.devices:
            known = ", ".join(speeds.devices)
            raise OptionError(f"--gpus: {kind!r} is unknown; choose from {known}, or add it to --speeds")
        if colon and not (count.isdecimal() and int(count) > 0):
            raise OptionError(f"--gpus: {part!r} needs a number of devices, such as {kind}:8")
        found[kind] = int(count) if colon else None
    if not found:
        raise OptionError(f"--gpus: names no device; choose from {', '.join(speeds.devices)}")
    return found


def read_sizes(text: str) -> tuple[Size, ...]:
    """`2b,9b,27b`."""
    return tuple(dict.fromkeys(_one("--sizes", part, {str(size): size for size in Size}) for part in _parts(text)))


def read_precisions(text: str) -> tuple[Quantization | None, ...]:
    """`bf16,int8,int4`."""
    found = {_one("--precision", part, {**_PRECISIONS}) for part in _parts(text)}
    return tuple(each for each in _PRECISIONS.values() if each in found)


def priced(speeds: Speeds, prices: tuple[str, ...]) -> Speeds:
    """With the operator's own prices in place of the examples."""
    devices = dict(speeds.devices)
    for text in prices:
        for kind, usd in _pairs("--price", text, {kind: kind for kind in devices}, float).items():
            if usd <= 0:
                raise OptionError(f"--price: {kind}={usd:g} has to be above 0: plans are compared by it")
            figure = Figure(value=usd, mark=Mark.PUBLISHED, source="--price")
            devices[kind] = devices[kind].model_copy(update={"usd_per_hour": figure})
    return speeds.model_copy(update={"devices": devices})


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pairs(option: str, text: str, names: Mapping[str, Name], make: Callable[[str], Value]) -> dict[Name, Value]:
    found: dict[Name, Value] = {}
    for part in _parts(text):
        name, _, value = part.partition("=")
        try:
            found[_one(option, name.strip(), names)] = make(value)
        except ValueError as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(f"{option}: {part!r} needs a number, such as {name}=1") from None
    return found


def _one(option: str, name: str, names: Mapping[str, Name]) -> Name:
    if name not in names:
        raise OptionError(f"{option}: {name!r} is unknown; choose from {', '.join(names)}")
    return names[name]
