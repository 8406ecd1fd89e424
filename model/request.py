"""What goes into an engine: a prompt as token ids and how to sample from it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

RequestId = NewType("RequestId", str)


class GuideKind(StrEnum):
    """What shape an answer is held to."""

    JSON = "json"  # any JSON value that is an object
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"  # EBNF, as xgrammar reads it


@dataclass(frozen=True, slots=True)
class Guide:
    """A shape that the answer must have. `text` is the schema, expression, grammar, or a JSON list of choices."""

    kind: GuideKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen and when to stop.

    `temperature` 0 is greedy. `top_k` None, `top_p` 1, `min_p` 0, penalties of 0 (`repetition_penalty` of 1) switch
    those off. Penalties of presence and frequency look at the answer, repetition at the prompt as well. `stop` strings
    end the text before they appear in it, also across token borders. `stop_token_ids` come on top of the model's own
    unless `ignore_eos`; no stop counts before `min_tokens`. One `seed` gives one text in any company; None draws one.
    `logprobs`: None for none, else that of each chosen token and so many likeliest beside it (at most 20), taken from
    the model's own distribution before penalties and temperature. `prompt_logprobs` the same for the prompt.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    guide: Guide | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as an engine sees it.

    `timeout_s` is the time left when the request is handed over; whoever receives it makes it a deadline on its own
    clock, since clocks of two machines differ. `draft_token_ids` is a guess at the answer, from its first token on; it
    changes how fast the answer comes and never what it is. `prompt_lookup` lets the engine guess from the prompt as
    well. A lower `priority` number goes first. Blocks are shared between requests of one `salt` only. Requests of one
    `session` go to one replica where nothing speaks against it; an engine does not look at it.
    """

    request_id: RequestId
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    timeout_s: float
    draft_token_ids: tuple[int, ...] = ()
    prompt_lookup: bool = False
    priority: int = 0
    salt: str = ""
    session: str = ""
