"""A routing profile: what was learned from labelled prompts, as one file that a person can read."""

import base64
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from cluster.routing.counts import NAMES
from cluster.routing.grams import BUCKETS
from cluster.saving import replace_text
from model.config import Size

FORMAT: Final = "gemmule-routing-profile/1"


class ProfileError(ValueError):
    """What is wrong with a profile, and what to do."""


def _array(dtype: str) -> tuple[BeforeValidator, PlainSerializer]:
    """Numbers of one type as base64 of their little-endian bytes."""

    def decoded(value: object) -> object:
        return np.frombuffer(base64.b64decode(value), dtype) if isinstance(value, str) else value

    def encoded(values: NDArray[np.generic]) -> str:
        return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode()

    return BeforeValidator(decoded), PlainSerializer(encoded)


Places = Annotated[NDArray[np.int32], *_array("<i4")]
Numbers = Annotated[NDArray[np.float16], *_array("<f2")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Data(_Part):
    """What a profile was fitted on; no text of it is kept."""

    sha256: str
    prompts: int
    groups: dict[str, int] = Field(description="Prompts of each kind.")
    right_share: dict[Size, float]
    cost_share: dict[Size, float] = Field(description="Cost of always taking this size, the largest size's being 1.")


class Promise(_Part):
    """What a rate of exchange brings, on prompts that were not fitted on."""

    quality: float = Field(description="Share of the largest size's right answers that is promised.")
    exchange_rate: float = Field(description="Chance of a right answer given up for one mean cost of the largest.")
    quality_share: float = Field(description="Share that was kept.")
    low: float = Field(description="95 % interval of the share, over prompts.")
    high: float
    cost_share: float = Field(description="Cost, always the largest size being 1.")
    sizes: dict[Size, float] = Field(description="Share of prompts that each size answered.")


class Bin(_Part):
    """Prompts of about the same predicted chance."""

    predicted: float
    right: float
    prompts: int


class Fitted(_Part):
    """The fitted numbers. `weights` [P, 2 S] row by row: chance of each size, then logarithm of its output tokens."""

    buckets: int = Field(description="N-grams of characters fall into so many, those of words into as many.")
    places: Places = Field(description="Features that the prompts had, [P], int32 in base64.")
    rarity: Numbers = Field(description="Of each n-gram among them, float16 in base64; counts have 1.")
    weights: Numbers = Field(description="[P, 2 S] row by row, float16 in base64.")
    bias: tuple[float, ...]
    slope: dict[Size, float] = Field(description="Of each size's logit, from prompts that were not fitted on.")
    shift: dict[Size, float]
    spread: dict[Size, float] = Field(description="Mean of tokens over mean of what their logarithm predicts.")
    counts_mean: dict[str, float]
    counts_spread: dict[str, float]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """One shape, and the counts that this version looks at."""
        known = self.buckets == BUCKETS and tuple(self.counts_mean) == tuple(self.counts_spread) == NAMES
        if not known:
            raise ValueError("its features are those of another version; calibrate again")
        if len(self.rarity) != len(self.places) or len(self.weights) != len(self.places) * len(self.bias):
            raise ValueError("its weights and places do not fit together")
        return self


View = tuple[float, float, float, float]


class Judged(_Part):
    """What one size's answers tell: weights of the prediction's logit, mean and least log-probability, and a bias."""

    keep: View = Field(description="Of the chance that the answer is right.")
    rescue: dict[Size, View] = Field(description="Of the chance that a larger size's would be.")
    right: tuple[tuple[float, float], ...] = Field(description="Mean and least log-probability of right answers.")
    wrong: tuple[tuple[float, float], ...] = Field(description="The same of wrong ones.")


class Unseen(_Part):
    """Of each prompt, as a fit without it said: chances and costs, [N, S] row by row. For planning and simulation."""

    chances: Numbers = Field(description="Of a right answer, float16 in base64.")
    costs: Numbers = Field(description="In mean costs of the largest size, float16 in base64.")


class Profile(_Part):
    """One profile. `gemmule routing calibrate` makes it."""

    format: Literal["gemmule-routing-profile/1"] = FORMAT
    about: str = ""
    sizes: tuple[Size, ...]
    parameters_e9: dict[Size, float]
    mean_cost: float = Field(gt=0, description="Of the largest size, in 10^9 parameters x tokens: the unit of rates.")
    data: Data
    promises: tuple[Promise, ...]
    calibration: dict[Size, tuple[Bin, ...]]
    calibration_error: dict[Size, float] = Field(description="Mean distance of predicted and right, over the bins.")
    useful_tokens: dict[Size, int] = Field(
        {}, description="Answers of a size that were longer were next to never right; only where enough were seen."
    )
    judges: dict[Size, Judged] = Field({}, description="Of answers; only where log-probabilities were given.")
    cascade_promises: tuple[Promise, ...] = Field((), description="As `promises`, a larger size taking over at times.")
    unseen: Unseen | None = Field(None, description="Missing in profiles of versions that did not plan.")
    fitted: Fitted

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(self.fitted.bias) != 2 * len(self.sizes):
            raise ValueError("it has weights for another number of sizes")
        if not self.promises or [p.quality for p in self.promises] != sorted(p.quality for p in self.promises):
            raise ValueError("its promises are missing or out of order")
        unseen = self.unseen
        if unseen and not 0 < len(unseen.chances) == len(unseen.costs) == self.data.prompts * len(self.sizes):
            raise ValueError("its unseen prompts are not as many as it was fitted on")
        return self

    @property
    def largest(self) -> Size:
        """The size that promises are measured against."""
        return self.sizes[-1]

    def exchange_rate(self, quality: float, cascade: bool = False) -> float:
        """For a promised share of the largest size's quality; between two promises the more careful one counts."""
        promises = self.cascade_promises if cascade and self.cascade_promises else self.promises
        kept = (promise for promise in promises if promise.quality >= quality - 1e-9)
        return next(kept, promises[-1]).exchange_rate

    def save(self, path: Path) -> None:
        """As JSON; a file that was there is replaced at once or not at all."""
        replace_text(path, self.model_dump_json(indent=2) + "\n")


def read_profile(path: Path) -> Profile:
    """Raises `ProfileError`."""
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ProfileError(f"{path}: {where}: {first['msg']}; `gemmule routing calibrate` makes a new one") from None
