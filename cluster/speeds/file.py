"""A file of speeds: devices with the source of every figure, and what was measured on them."""

import hashlib
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.saving import replace_text
from model.config import Dtype, Quantization, Size

FORMAT: Final = "gemmule-speeds/1"
PUBLISHED: Final = "published"
_SHIPPED: Final = files("cluster.speeds") / "published.json"


class SpeedsError(ValueError):
    """What is wrong with a file of speeds, and what to do."""


class Mark(StrEnum):
    """Where a figure comes from."""

    MEASURED = "measured"  # on the device itself, by this project's engine
    PUBLISHED = "published"  # by the vendor
    CALCULATED = "calculated"  # from published figures and assumptions
    ASSUMED = "assumed"  # a guess that is stated, so that it can be replaced
    EXAMPLE = "example"  # stands where the operator's own figure belongs


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """One number and where it is from."""

    value: float = Field(ge=0)
    mark: Mark
    source: str = Field(min_length=1)


class Device(_Part):
    """One kind of device."""

    product: str | None = Field(None, description="As the node label nvidia.com/gpu.product names it.")
    memory_bytes: Figure
    read_bytes_per_s: Figure | None = Field(None, description="Of its memory; none: nothing is calculated for it.")
    bf16_flops_per_s: Figure | None = Field(None, description="Dense, multiply and add counted as two.")
    int8_ops_per_s: Figure | None = Field(None, description="Dense. Not used: quantized weights are widened to bf16.")
    link_bytes_per_s: Figure | None = Field(None, description="Between two devices of a host, both directions.")
    usd_per_hour: Figure

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        if self.usd_per_hour.value <= 0:
            raise ValueError("usd_per_hour has to be above 0: plans are compared by it")
        return self


class Assumed(_Part):
    """What stands between a data sheet and a step's seconds."""

    memory_share: Figure = Field(description="Of the memory, what weights, keys, values and workspace may take.")
    read_share: Figure = Field(description="Of the published bandwidth, what a step reaches.")
    flops_share: Figure = Field(description="Of the published arithmetic, what a step reaches.")
    overhead_s: Figure = Field(description="Of each step: launches, scheduling, sampling.")
    exchange_s: Figure = Field(description="Least time of one all-reduce between the ranks of a replica.")
    seen_tokens: Figure = Field(description="Context that a token of a prompt looks at, for its attention.")
    load_bytes_per_s: Figure = Field(description="Weights from a disk to the device, at a start.")
    cold_start_s: dict[str, Figure] = Field(description="The other parts of a start: node, image, warm, gate.")
    max_step_tokens: int = Field(ge=16)
    max_slots: int = Field(ge=1)


class Row(_Part):
    """One replica as it was measured. Coefficients as in `cluster.speed.Speed`."""

    size: Size
    device: str
    degree: int = Field(ge=1)
    dtype: Dtype
    quantization: Quantization | None = None
    step_s: float = Field(ge=0)
    prefill_s_per_token: float = Field(ge=0)
    decode_s_per_sequence: float = Field(ge=0)
    decode_s_per_context_token: float = Field(ge=0)
    slots: int = Field(ge=1)
    kv_tokens: int = Field(ge=1)
    max_step_tokens: int = Field(ge=1)
    cold_start_s: dict[str, float] = {}
    checkpoint: str
    steps: int = Field(description="That the coefficients were fitted on.")
    error_share: float = Field(description="Mean distance of fitted and measured seconds, over the mean measured.")
    mark: Literal[Mark.MEASURED] = Mark.MEASURED
    source: str = Field(min_length=1, description="Machine, command, versions, date.")


class Speeds(_Part):
    """One file."""

    format: Literal["gemmule-speeds/1"] = FORMAT
    about: str = ""
    devices: dict[str, Device]
    assumed: Assumed | None = Field(None, description="None: only what was measured counts.")
    measured: tuple[Row, ...] = ()

    @model_validator(mode="after")
    def _devices_are_known(self) -> Self:
        for row in self.measured:
            if row.device not in self.devices:
                raise ValueError(f"measured: {row.size} on {row.device}, which `devices` does not have")
        return self

    @property
    def fingerprint(self) -> str:
        """Of all figures; a plan names it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """As JSON; a file that was there is replaced at once or not at all."""
        replace_text(path, self.model_dump_json(indent=2) + "\n")


def read_speeds(name: str = PUBLISHED) -> Speeds:
    """A file, or the one that comes along; raises `SpeedsError`."""
    path = Path(str(_SHIPPED)) if name == PUBLISHED else Path(name)
    try:
        return Speeds.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpeedsError(f"{path}: cannot be read ({error}); `gemmule bench speeds` writes one") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise SpeedsError(f"{path}: {where}: {first['msg']}") from None
