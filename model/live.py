"""A request while the engine works on it: what it has said, what is still held back, and when it is over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model.detokenizer import Detokenizer
from model.errors import Fault
from model.events import Event, Failed, Finished, FinishReason, Logprob, PromptScored, TokenEvent, Usage
from model.lookup import Lookup
from model.sampling import Sampled, SamplingState
from model.sequence import Sequence
from model.step import Span


@dataclass(eq=False, slots=True)
class Live:
    """One sequence with its sampler, its text and its reader. The engine's thread alone touches it once it is added."""

    sequence: Sequence
    state: SamplingState
    text: Detokenizer
    lookup: Lookup
    deliver: Callable[[Event], None]  # from the engine's thread to the reader
    scores: list[Logprob] = field(default_factory=list)  # of the prompt, so far
    accepted: int = 0  # draft tokens
    rejected: int = 0
    over: bool = False
    probe: Callable[[Any], None] | None = None  # takes the row of logits behind the prompt, for checks

    def propose(self) -> None:
        """Set the guesses for the next step."""
        sequence = self.sequence
        room = sequence.max_total_tokens - len(sequence.tokens) - 1
        ready = len(sequence.tokens) - sequence.num_computed == 1
        sequence.draft = self.lookup.propose(sequence.tokens, sequence.num_output, room) if ready and room > 0 else ()

    def score(self, logprobs: tuple[Logprob, ...]) -> None:
        """Some more of the prompt was scored."""
        self.scores.extend(logprobs)
        if len(self.scores) == self.sequence.num_prompt - 1:
            self.deliver(PromptScored(self.sequence.request.request_id, tuple(self.scores)))

    def take(self, span: Span, sampled: Sampled) -> tuple[int, ...]:
        """New tokens of a step, to the reader; those that count, the last of which may end the answer."""
        if sampled.fault is not None:
            self.fail(sampled.fault)
            return sampled.token_ids
        agreed = len(sampled.token_ids) - 1
        self.accepted += agreed
        self.rejected += span.num_draft - agreed
        if span.num_draft:
            self.lookup.accepted(span.num_draft, agreed)
        self._say(sampled)
        return sampled.token_ids

    def _say(self, sampled: Sampled) -> None:
        """Text up to where the answer ends, if it ends here."""
        params = self.sequence.request.sampling
        shown: list[int] = []
        piece, reason = "", None
        done = self.sequence.num_output
        for token in sampled.token_ids:
            done += 1
            if token in self.state.stop_ids:  # never drawn before `min_tokens`
                reason = FinishReason.STOP
                break
            before = self.text.num_ids
            piece += self.text.feed((token,), watch=done > params.min_tokens)
            shown += [token] * (self.text.num_ids - before)
            if self.text.stopped:
                reason = FinishReason.STOP
                break
            if done >= params.max_tokens or self.sequence.num_prompt + done >= self.sequence.max_total_tokens:
                reason = FinishReason.LENGTH
                break
        if reason is not None:
            piece += self.text.finish()
        if piece or shown:
            ids = tuple(shown)
            self.deliver(TokenEvent(self.sequence.request.request_id, piece, ids, sampled.logprobs[: len(ids)]))
        if reason is not None:
            self._finish(reason, done)

    def _finish(self, reason: FinishReason, output_tokens: int) -> None:
        self.over = True
        sequence = self.sequence
        usage = Usage(sequence.num_prompt, output_tokens, sequence.cached_tokens, self.accepted, self.rejected)
        self.deliver(Finished(sequence.request.request_id, reason, usage))

    def fail(self, fault: Fault) -> None:
        """End it with an error."""
        if not self.over:
            self.over = True
            self.deliver(Failed(self.sequence.request.request_id, fault))
