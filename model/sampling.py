"""How one sequence chooses its tokens: its settings and what they depend on, and what a step asks and gets."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from model.config import STOP_IDS
from model.errors import Fault, InvalidRequestError
from model.events import Logprob
from model.request import GenerationRequest
from model.token_counts import TokenCounts

if TYPE_CHECKING:
    from torch import Tensor

_COLDEST: Final = 1e-5
"""Below this temperature the likeliest token has all of the probability, and quotients may overflow."""


class Matcher(Protocol):
    """Where an answer stands in its guide."""

    @property
    def done(self) -> bool:
        """The stop token that ends a guided answer was accepted; nothing can follow."""
        ...

    def fill(self, mask_row: "Tensor") -> None:
        """Write which tokens may come next: bit i % 32 of word i // 32 (int32, CPU) is token i.

        Raises `InvalidRequestError` when the guide turns out to take too long to follow.
        """
        ...

    def accept(self, token_id: int) -> bool:
        """Go on by a token; False, and nothing has changed, if the guide does not allow it."""
        ...

    def rollback(self, num_tokens: int) -> None:
        """Take back the last tokens that were accepted."""
        ...


class SamplingState:
    """What choosing a sequence's next token depends on, beside the model. Lives as long as the sequence.

    Nothing in it hangs on the batch, so a preempted sequence just keeps it; built anew from the same request and
    seed, and advanced by the same tokens, it is the same. `seed` counts only where the request has none. Raises
    `InvalidRequestError` for token ids that the model does not have.
    """

    def __init__(self, request: GenerationRequest, vocabulary: int, seed: int, matcher: Matcher | None = None) -> None:
        self.params = params = request.sampling
        self.seed = seed if params.seed is None else params.seed
        self.matcher = matcher
        self.num_output = 0  # confirmed tokens of the answer
        bias: dict[int, float] = {}
        for token_id, value in params.logit_bias:
            bias[token_id] = bias.get(token_id, 0.0) + value
        _check("logit_bias", bias, vocabulary)
        _check("stop_token_ids", params.stop_token_ids, vocabulary)
        self.bias_ids = array("q", bias)
        self.bias_values = array("f", bias.values())
        # A guided answer that is complete has nothing more to say, whatever `ignore_eos` wants.
        own = () if params.ignore_eos and matcher is None else STOP_IDS
        self.stop_ids = frozenset((*own, *params.stop_token_ids))
        self.counts = self._counts(request.prompt_token_ids)

    def _counts(self, prompt: Sequence[int]) -> TokenCounts | None:
        params = self.params
        if params.repetition_penalty != 1.0:
            return TokenCounts(prompt)
        return TokenCounts() if params.presence_penalty or params.frequency_penalty else None

    @property
    def greedy(self) -> bool:
        """The likeliest token is taken; nothing is drawn."""
        return self.params.temperature < _COLDEST

    def bans_stops(self, ahead: int) -> bool:
        """Whether `min_tokens` forbids stop ids, so many tokens behind the last confirmed one."""
        return self.num_output + ahead < self.params.min_tokens

    def advance(self, token_ids: Iterable[int]) -> None:
        """These tokens are confirmed. Raises `ValueError` where the guide refuses one."""
        for token_id in token_ids:
            if self.matcher is not None and not self.matcher.accept(token_id):
                raise ValueError(f"the guide refuses token {token_id} as number {self.num_output} of the answer")
            self.num_output += 1
            if self.counts is not None:
                self.counts.add(token_id)


def _check(field: str, token_ids: Iterable[int], vocabulary: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocabulary:
            message = f"{field}: {token_id} is not a token id; the model knows 0 to {vocabulary - 1}"
            raise InvalidRequestError("invalid_value", field, message)


@dataclass(frozen=True, slots=True)
class Ask:
    """One sequence that wants its next token, and guesses at what follows."""

    state: SamplingState
    draft: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of logits for it: one for the next token and one after each guess."""
        return 1 + len(self.draft)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one sequence got: 1 to `1 + len(draft)` tokens, the last of which may be a stop id; none with a `fault`."""

    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...] = ()  # one per token, when asked for
    fault: Fault | None = None  # the sequence cannot go on: its guide has no continuation, or takes too long
