"""A model that checks its own memory: every slot holds the name of the text up to there, so a wrong block shows."""

from collections.abc import Sequence as Tokens
from itertools import pairwise

from model.prefix_cache import Kind
from model.request import GenerationRequest, RequestId, SamplingParams
from model.sequence import NO_BLOCK, Sequence
from model.step import Span, StepPlan

VOCABULARY = 3


def a_sequence(
    prompt: Tokens[int],
    number: int = 0,
    arrival_s: float = 0.0,
    max_tokens: int = 4,
    priority: int = 0,
    salt: str = "",
    scored: bool = False,
) -> Sequence:
    sampling = SamplingParams(max_tokens=max_tokens, prompt_logprobs=0 if scored else None)
    request = GenerationRequest(RequestId(str(number)), tuple(prompt), sampling, 60.0, priority=priority, salt=salt)
    return Sequence(request, number, arrival_s, len(prompt) + max_tokens, list(prompt))


def name_after(name: int, token: int) -> int:
    return hash((name, token))


def names_of(salt: str, tokens: Tokens[int]) -> list[int]:
    """Entry p names the salt and the tokens 0 … p."""
    names, name = [], hash(salt)
    for token in tokens:
        name = name_after(name, token)
        names.append(name)
    return names


def true_next(name: int) -> int:
    """The token that this model says after a text; every text has exactly one."""
    return name % VOCABULARY


class KvMemory:
    """Executes plans on slots; raises AssertionError where a key that has to be read is missing or another's."""

    def __init__(self, num_blocks: int, block_tokens: int, window_tokens: int) -> None:
        self._block_tokens, self._window_tokens = block_tokens, window_tokens
        self._slots: list[list[object]] = [[None] * block_tokens for _ in range(num_blocks)]

    def execute(self, plan: StepPlan) -> dict[Sequence, tuple[int, ...]]:
        """All writes before all reads, as the layers do it; what each span that samples accepts."""
        for span in plan.spans:
            self._write(span)
        for span in plan.spans:
            self._read(span)
        return {span.sequence: _accept(span) for span in plan.spans if span.samples}

    def _write(self, span: Span) -> None:
        names = _names(span)
        for position in range(span.start, span.start + len(span.tokens)):
            for kind in Kind:
                block, slot = self._place(span.sequence, kind, position)
                self._slots[block][slot] = (kind, names[position])

    def _read(self, span: Span) -> None:
        """The first token sees the earliest positions, and the last one everything later."""
        names, end = _names(span), span.start + len(span.tokens)
        first = {Kind.GLOBAL: 0, Kind.WINDOW: max(0, span.start - self._window_tokens + 1)}
        for kind in Kind:
            for position in range(first[kind], end):
                block, slot = self._place(span.sequence, kind, position)
                assert self._slots[block][slot] == (kind, names[position]), (
                    f"{kind.name} slot of {position} is another's"
                )

    def _place(self, sequence: Sequence, kind: Kind, position: int) -> tuple[int, int]:
        table = sequence.global_blocks if kind is Kind.GLOBAL else sequence.window_blocks
        index, slot = divmod(position, self._block_tokens)
        assert index < len(table), f"{kind.name} table ends before {position}"
        assert table[index] != NO_BLOCK, f"position {position} was given back"
        return table[index], slot


def _names(span: Span) -> list[int]:
    return names_of(span.sequence.request.salt, [*span.sequence.tokens[: span.start], *span.tokens])


def _accept(span: Span) -> tuple[int, ...]:
    names = _names(span)
    first = len(names) - span.num_draft - 1
    accepted = [true_next(names[first])]
    for guess, name in zip(span.tokens[len(span.tokens) - span.num_draft :], names[first + 1 :], strict=True):
        if guess != accepted[-1]:
            break
        accepted.append(true_next(name))
    return tuple(accepted)


def says_the_truth(sequence: Sequence) -> bool:
    """Every token of its answer is the one that this model says there."""
    names = names_of(sequence.request.salt, sequence.tokens)
    answer = list(pairwise(zip(names, sequence.tokens, strict=True)))[sequence.num_prompt - 1 :]
    return all(true_next(name) == token for (name, _), (_, token) in answer)
