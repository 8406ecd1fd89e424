"""Events of one generation -> the parts of one choice."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from model.events import Finished, FinishReason, PromptScored, TokenEvent, Usage
from serving.parts import ChoiceEnded, Piece
from serving.plan import Plan
from serving.spelling import Ruler, Speller


class Choice:
    """Knows what of the events is shown, and refuses to go on when what was asked for does not come."""

    def __init__(self, index: int, plan: Plan, speller: Speller) -> None:
        self._index = index
        self._plan = plan
        self._speller = speller
        self._ruler = Ruler(speller, len(plan.echo or ""))
        self._scored = plan.sampling.logprobs is not None
        self._awaits_prompt = plan.sampling.prompt_logprobs is not None
        self.finished = False
        self.reason = FinishReason.LENGTH
        self.used = self.shown = Usage(0, 0)  # by the engine; by what the client gets

    def begin(self) -> Iterator[Piece]:
        """What goes before any event: an echo without scores."""
        if self._plan.echo is not None and not self._awaits_prompt:
            yield Piece(self._index, self._plan.echo, self._plan.prompt.token_ids, of_prompt=True)

    def parts(self, event: TokenEvent | PromptScored | Finished) -> Iterator[Piece | ChoiceEnded]:
        """What the event adds to the choice."""
        if isinstance(event, PromptScored):
            if self._awaits_prompt:
                yield self._prompt(event)
        elif self._awaits_prompt:
            raise RuntimeError("the engine sent no log-probabilities of the prompt")
        elif isinstance(event, Finished):
            self._finish(event)
            yield ChoiceEnded(self._index, self.reason)
        elif not self._plan.silent:
            yield self._piece(event)

    def _finish(self, event: Finished) -> None:
        self.finished, self.reason = True, event.reason
        self.used = self.shown = event.usage
        if self._plan.silent:  # the one token that an engine makes at least is no part of the answer
            self.reason = FinishReason.LENGTH
            self.shown = replace(event.usage, output_tokens=0)

    def _prompt(self, event: PromptScored) -> Piece:
        self._awaits_prompt = False
        ids, ruler = self._plan.prompt.token_ids, Ruler(self._speller)
        if len(event.logprobs) != len(ids) - 1:
            raise RuntimeError("the engine scored another number of the prompt's tokens than there are")
        scores = (ruler.unscored(ids[0]), *ruler.scored(event.logprobs))
        return Piece(self._index, self._plan.echo or "", ids, scores, of_prompt=True)

    def _piece(self, event: TokenEvent) -> Piece:
        if self._scored and len(event.logprobs) != len(event.token_ids):
            raise RuntimeError("the engine sent tokens without their log-probabilities")
        scores = self._ruler.scored(event.logprobs) if self._scored else ()
        return Piece(self._index, event.text, event.token_ids, scores)


def total(usages: Iterable[Usage]) -> Usage:
    """Usage of all choices: the output of each, and the prompt once, as the first choice found it."""
    first, *others = usages
    return Usage(
        first.prompt_tokens,
        first.output_tokens + sum(usage.output_tokens for usage in others),
        first.cached_tokens,
        first.accepted_draft_tokens + sum(usage.accepted_draft_tokens for usage in others),
        first.rejected_draft_tokens + sum(usage.rejected_draft_tokens for usage in others),
    )
