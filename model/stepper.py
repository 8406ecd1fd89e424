"""One turn of the engine: plan, compute, choose, hand out. This is the loop's body, and it fits a screen.

plan    Scheduler.plan      which tokens of which sequences, and that their blocks are there
batch   make_batch          the same as arrays: ids [T], tables [S, W], rows that need logits [R]
logits  Executor.run        [R, V] on every rank; keys and values of all T tokens are written
tokens  sample              1 to 1 + drafts for each span that samples
commit  Scheduler.commit    tokens are confirmed, full blocks published, blocks out of sight freed
"""

from collections.abc import Callable
from typing import Any

import torch

from model.batch import make_batch
from model.executor import Executor
from model.instruments import Instruments
from model.live import Live
from model.logprobs import prompt_logprobs
from model.runner import BLOCK_TOKENS
from model.sampler import sample
from model.sampling import Ask, Sampled
from model.scheduler import Scheduler
from model.sequence import Sequence
from model.step import Span, StepPlan


class Stepper:
    """Owns nothing but the order of things; runs in the engine's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        live: dict[Sequence, Live],
        instruments: Instruments,
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._live = live
        self._instruments = instruments
        self._clock = clock

    def step(self) -> bool:
        """One turn; False when there was nothing to do."""
        timed = self._instruments.part
        with timed("schedule"):
            for live in self._live.values():
                live.propose()
            plan = self._scheduler.plan(self._clock())
            batch = make_batch(plan, BLOCK_TOKENS) if plan.spans else None
        if batch is None:
            self._instruments.end(0, 0, 0)
            return False
        with timed("forward"):
            logits = self._executor.run(batch)  # [R, V]
        with timed("sample"):
            chosen = self._choose(plan, logits)
        with timed("publish"):
            accepted = {span.sequence: self._live[span.sequence].take(span, chosen[span]) for span in chosen}
            faulty = [sequence for sequence, tokens in accepted.items() if not tokens]
            for sequence in faulty:
                self.drop(sequence)
            self._scheduler.commit(plan, accepted)
            for sequence in accepted:
                if sequence in self._live and self._live[sequence].over:
                    self.drop(sequence)
        drafted = sum(span.num_draft for span in chosen)
        agreed = sum(len(tokens) - 1 for tokens in accepted.values() if tokens)
        self._instruments.end(plan.num_tokens, len(plan.spans), sum(map(len, accepted.values())), drafted, agreed)
        return True

    def drop(self, sequence: Sequence) -> None:
        """It leaves, for whatever reason; its blocks are free, what others may share stays cached."""
        self._scheduler.finish(sequence)
        self._live.pop(sequence, None)

    def _choose(self, plan: StepPlan, logits: torch.Tensor) -> dict[Any, Sampled]:
        """Score prompts that want it, then sample every span that is due, all at once."""
        asks: dict[Span, Ask] = {}
        rows: list[torch.Tensor] = []
        end = 0
        for span in plan.spans:
            begin, end = end, end + span.num_logits
            live = self._live[span.sequence]
            self._score(live, span, logits[begin:end])
            if span.samples:
                if live.probe is not None:
                    live.probe(logits[end - 1 - span.num_draft].clone())
                asks[span] = Ask(live.state, span.tokens[len(span.tokens) - span.num_draft :])
                rows.append(logits[end - 1 - span.num_draft : end])
        if not asks:
            return {}
        together = logits if sum(map(len, rows)) == len(logits) else torch.cat(rows)
        return dict(zip(asks, sample(together, list(asks.values())), strict=True))

    def _score(self, live: Live, span: Span, logits: torch.Tensor) -> None:
        """Log-probabilities of the prompt's tokens behind the rows [N, V] of this span; none is scored twice."""
        wanted = live.sequence.request.sampling.prompt_logprobs
        if wanted is None:
            return
        sequence = live.sequence
        first = span.start + len(span.tokens) - len(logits)  # position of the first row
        skip = len(live.scores) - first  # scored before the sequence was preempted
        following = sequence.tokens[first + 1 : min(first + 1 + len(logits), sequence.num_prompt)][max(0, skip) :]
        if following:
            rows = logits[max(0, skip) : max(0, skip) + len(following)]
            live.score(prompt_logprobs(rows, following, wanted))
