"""What an operator asks for, whose replica it is, and how the answer reads."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from model.config import Size
from model.errors import Code, Fault, GemmuleError, NotReadyError
from model.profile import Profile, summary
from model.trace import chrome_trace
from serving.echo import echo
from serving.fields import settle_names
from serving.form import Form
from serving.refusal import refused


class ProfileAsk(Form):
    """One replica's next seconds; without a name the first of the size, without a size the first there is."""

    size: str | None = Field(None, description="A size (2b, 9b, 27b).")
    replica: str | None = Field(None, description="As /v1/status names it.")
    seconds: float = Field(5.0, ge=0.1, le=60.0, allow_inf_nan=False, description="How long to look.")
    stacks: bool = Field(False, description="Sample the stacks of Python's threads as well.")


def profile_ask(raw: Mapping[str, Any]) -> ProfileAsk:
    """From the fields a client sent; raises `InvalidRequestError` for the first thing wrong."""
    try:
        return ProfileAsk.model_validate(settle_names(raw, ProfileAsk.model_fields, {}))
    except ValidationError as error:
        raise refused(error) from None


def pick(ask: ProfileAsk, replicas: Mapping[Size, tuple[str, ...]]) -> tuple[Size, str]:
    """The replica that is meant; raises `GemmuleError` with the field that names none."""
    if ask.size is not None and ask.size not in replicas:
        raise _unknown("size", ask.size, "is not served here", [size.value for size in replicas])
    up = [(size, name) for size, names in replicas.items() for name in names if ask.size in (None, size.value)]
    if ask.replica is not None:
        found = [each for each in up if each[1] == ask.replica]
        if not found:
            raise _unknown("replica", ask.replica, f"is none of {ask.size or 'any size'}", [name for _, name in up])
        return found[0]
    if not up:
        raise NotReadyError(f"size: no replica of {ask.size or 'any size'} is up")
    return up[0]


def profile_object(profile: Profile) -> dict[str, Any]:
    """The endpoint's answer."""
    return {
        "object": "profile",
        "replica": profile.replica,
        "seconds": profile.ended_s - profile.began_s,
        "summary": summary(profile),
        "trace": chrome_trace(profile),
        "stacks": None if profile.stacks is None else dict(profile.stacks),
    }


def _unknown(field: str, given: str, what: str, known: list[str]) -> GemmuleError:
    choose = f"choose one of {', '.join(known)}" if known else "none is up"
    fault = Fault(Code.MODEL_NOT_FOUND, f"{field}: {echo(given)} {what}; {choose}", f"{field}_not_found", field)
    return GemmuleError(fault)
