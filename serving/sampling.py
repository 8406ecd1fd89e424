"""The fields that say how the next token is chosen and when to stop, with their bounds."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from model.config import CONTEXT_TOKENS, VOCABULARY
from serving.echo import echo
from serving.form import Form
from serving.strings import StopString

MAX_STOPS: Final = 16
MAX_BIASES: Final = 300
MAX_LOGPROBS: Final = 20
MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1
_MAX_BIAS: Final = 100.0
_ID: Final = re.compile(r"0|[1-9][0-9]{0,9}")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _biases(given: dict[str, float]) -> dict[str, float]:
    """JSON's names are strings, so ids are; whether the vocabulary has them is seen once it is known."""
    for token_id, bias in given.items():
        if not _ID.fullmatch(token_id):
            what = f"got id {echo(token_id)}; ids are whole numbers from 0, written plainly"
            raise PydanticCustomError("invalid_value", "{what}", {"what": what})
        if abs(bias) > _MAX_BIAS:
            what = f"got {echo(bias)} for id {token_id}; choose -100 to 100"
            raise PydanticCustomError("invalid_value", "{what}", {"what": what})
    return given


class SamplingForm(Form):
    """How the next token is chosen and when to stop."""

    max_tokens: int | None = Field(None, ge=1, le=CONTEXT_TOKENS, description="Tokens of the answer at most.")
    temperature: float = Field(1.0, ge=0.0, le=2.0, allow_inf_nan=False, description="0 takes the likeliest token.")
    top_p: float = Field(1.0, ge=0.0, le=1.0, allow_inf_nan=False, description="Share of probability to draw from.")
    top_k: int | None = Field(None, ge=-1, le=VOCABULARY, description="Draw from the k likeliest; 0 and -1: all.")
    min_p: float = Field(
        0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="Least probability, as a share of the likeliest token's."
    )
    presence_penalty: float = Field(
        0.0, ge=-2.0, le=2.0, allow_inf_nan=False, description="Taken from the logit of a token that the answer has."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2.0, le=2.0, allow_inf_nan=False, description="The same, once for each time."
    )
    # Logits are capped at 30, so a hundredth keeps them finite in any precision.
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=10.0, allow_inf_nan=False, description="Divides logits of tokens seen in prompt or answer."
    )
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(allow_inf_nan=False)]],
        Field(max_length=MAX_BIASES),
        AfterValidator(_biases),
    ] = Field({}, description="Token id -> what is added to its logit, -100 to 100.")
    min_tokens: int = Field(0, ge=0, le=CONTEXT_TOKENS, description="Nothing ends the answer before so many tokens.")
    ignore_eos: bool = Field(False, description="The model's own stop tokens do not end the answer.")
    stop: Annotated[
        Annotated[list[StopString], Field(max_length=MAX_STOPS, fail_fast=True)],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    ] = Field([], description="Strings that end the answer before they appear in it.")
    stop_token_ids: Annotated[list[int], Field(max_length=MAX_STOPS, fail_fast=True)] = Field(
        [], description="Token ids that end the answer, beside the model's own."
    )
    seed: int | None = Field(
        None, ge=MIN_SEED, le=MAX_SEED, description="One seed gives one text; choice i of n draws from seed + i."
    )
