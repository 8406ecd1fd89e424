"""The one validated form of a request; REST bodies and protobuf messages both end here.

Types are strict: nothing is coerced. null is absent. Limits are the ones of docs/api.md.
"""

from typing import Annotated, Any, Final

from pydantic import Discriminator, Field, Tag

from model.config import CONTEXT_TOKENS
from model.prompt import Turn
from serving.form import Form
from serving.guides import GuideForm
from serving.sampling import MAX_LOGPROBS, SamplingForm
from serving.strings import Label, LabelKey, LabelValue, Text
from serving.turns import Messages, Prediction

MAX_CHOICES: Final = 8
MAX_COST_USD: Final = 1_000_000.0
CHAT_DEFAULT_TOKENS: Final = 512
"""max_tokens of a chat that names none, or what is left of the context if that is less."""
TEXT_DEFAULT_TOKENS: Final = 16
"""The same for a completion, as OpenAI's."""


def _kind_of_prompt(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    return "<texts>" if isinstance(first, str) else "<rows>" if isinstance(first, list) else "<ids>"


Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]


class StreamOptions(Form):
    """Only together with `stream: true`."""

    include_usage: bool = Field(False, description="Send a last chunk with the tokens used.")


class AskBase(SamplingForm, GuideForm):
    """What both kinds of request share."""

    model: str = Field(description="A size (2b, 9b, 27b) or a tier (economy, balanced, premium, auto).")
    n: int = Field(1, ge=1, le=MAX_CHOICES, description="Answers to one prompt; they are made side by side.")
    prediction: Prediction | None = Field(None, description="A guess at the answer, to have it sooner.")
    prompt_lookup: bool = Field(False, description="Guess parts of the answer from the prompt, to have it sooner.")
    priority: int = Field(0, ge=-10, le=10, description="A lower number goes first.")
    stream: bool = Field(False, description="Send the answer as server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Only with stream.")
    deadline_ms: int | None = Field(None, ge=1, description="Time for the whole answer; cut to the configured limit.")
    max_cost: float | None = Field(
        None, gt=0.0, le=MAX_COST_USD, allow_inf_nan=False, description="USD that the whole request costs at most."
    )
    min_quality: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Share of the largest size's right answers, in place of the tier's promise; only with a tier.",
    )
    allow_fallback: bool = Field(False, description="A size that cannot serve now may be replaced by another.")
    include_sizes: bool = Field(False, description="Say which size wrote which tokens of the answer.")
    user: Label | None = Field(None, description="A label, without effect.")
    metadata: Annotated[
        dict[
            LabelKey,
            LabelValue,
        ],
        Field(max_length=16),
    ] = Field({}, description="Labels, without effect.")
    safety_identifier: Label | None = Field(None, description="A label, without effect.")
    prompt_cache_key: Label | None = Field(
        None, description="Requests of one key go to one replica of a size, as far as its load allows."
    )
    store: bool | None = Field(
        None, description="false keeps the prompt out of the operator's sample; true is refused."
    )
    return_token_ids: bool = Field(False, description="Send the answer's token ids beside its text.")

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatAsk(AskBase):
    """A chat to be continued by the model."""

    messages: Messages
    max_completion_tokens: int | None = Field(
        None, ge=1, le=CONTEXT_TOKENS, description="OpenAI's newer name of max_tokens."
    )
    logprobs: bool = Field(False, description="Send the log-probability of each token of the answer.")
    top_logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="And of so many likeliest tokens at its place; only with logprobs."
    )

    @property
    def num_logprobs(self) -> int | None:
        """Likeliest tokens beside each one, None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def turns(self) -> list[Turn]:
        """The chat as turns, not yet folded."""
        return [message.turn() for message in self.messages]


class TextAsk(AskBase):
    """A text, or token ids, to be continued as they are."""

    prompt: (
        Annotated[
            Annotated[Text, Tag("<text>")]
            | Annotated[list[Text], Field(min_length=1, max_length=1), Tag("<texts>")]
            | Annotated[Ids, Tag("<ids>")]
            | Annotated[list[Ids], Field(min_length=1, max_length=1), Tag("<rows>")],
            Discriminator(_kind_of_prompt),
        ]
        | None
    ) = Field(None, description="Text, or token ids; arrays of either may hold one entry.")
    prompt_token_ids: Ids | None = Field(None, description="Token ids instead of prompt, taken as they are.")
    max_tokens: int | None = Field(
        None, ge=0, le=CONTEXT_TOKENS, description="Tokens of the answer at most; 0 only with echo."
    )
    logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="Send the log-probability of each token, and of so many likeliest."
    )
    echo: bool = Field(False, description="Send the prompt in front of the answer.")
    best_of: int | None = Field(None, ge=1, description="As n; more is not supported.")

    @property
    def num_logprobs(self) -> int | None:
        """Likeliest tokens beside each one, None for no log-probabilities at all."""
        return self.logprobs

    @property
    def text(self) -> str | None:
        """The text, or None when ids were sent."""
        given = self.prompt[0] if isinstance(self.prompt, list) else self.prompt
        return given if isinstance(given, str) else None

    @property
    def ids(self) -> tuple[str, list[int]]:
        """Path and ids, when ids were sent."""
        if not isinstance(self.prompt, list):
            return "prompt_token_ids", self.prompt_token_ids or []
        first = self.prompt[0]
        if isinstance(first, list):
            return "prompt[0]", first
        return "prompt", [token_id for token_id in self.prompt if isinstance(token_id, int)]


Ask = ChatAsk | TextAsk
