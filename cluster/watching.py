"""Looks at a size's answer while it comes: let it go, let a larger size take over, or end it. Pure."""

from enum import Enum, auto
from typing import Final

from cluster.config import GuardAction, RoutingConfig
from cluster.guard import most_tokens, repeats
from cluster.routing.judge import Evidence, Judge
from cluster.rules import Rules
from cluster.snapshot import Decision
from model.events import TokenEvent

_LOOK_TOKENS: Final = 16  # between two looks for a loop


class Verdict(Enum):
    """What to do with the answer so far."""

    HOLD = auto()
    KEEP = auto()  # let it go, and what follows with it
    ESCALATE = auto()
    STOP = auto()


class Watch:
    """One answer of one size. Until a verdict of KEEP nothing of it was sent."""

    def __init__(self, decision: Decision, rules: Rules, stream: bool, guarded: bool) -> None:
        """`stream`: the client waits for every token. `guarded`: the answer may be ended when it runs away."""
        self._decision = decision
        self._routing: RoutingConfig = rules.routing
        self._judge: Judge | None = rules.judges.get(decision.size) if decision.then else None
        self._stream = stream
        guard = rules.routing.guard
        self._guarded = guarded and guard.action is not GuardAction.OFF
        offer = decision.offer(decision.size)
        self._expected_tokens = offer.output_tokens
        self._most_tokens = most_tokens(offer, rules.useful_tokens.get(decision.size), guard)
        self._sum = self._least = 0.0
        self._looked = 0
        self.token_ids: list[int] = []
        self.sent = False
        self.why = ""

    @property
    def needs_logprobs(self) -> bool:
        """The answer is judged by them."""
        return self._judge is not None

    def see(self, event: TokenEvent) -> Verdict:
        """The next tokens."""
        self.token_ids += event.token_ids
        for score in event.logprobs:
            self._sum += score.logprob
            self._least = min(self._least, score.logprob)
        if (runs_away := self._runs_away()) is not Verdict.HOLD:
            return runs_away
        if self.sent or self._judge is None:
            return self._go() if self._stream or self.sent else Verdict.HOLD
        if self._weak(self._sum / max(len(self.token_ids), self._expected_tokens)):
            return self._escalate("whatever may follow")  # even if all that is missing were certain
        if self._stream and len(self.token_ids) >= self._routing.cascade.hold_tokens:
            return self._judged()
        return Verdict.HOLD

    def end(self) -> Verdict:
        """The answer is complete."""
        return self._go() if self.sent or self._judge is None else self._judged()

    def _go(self) -> Verdict:
        self.sent = True
        return Verdict.KEEP

    def _judged(self) -> Verdict:
        return self._escalate("in all") if self._weak(self._sum / max(1, len(self.token_ids))) else self._go()

    def _weak(self, mean: float) -> bool:
        """The larger size is worth its price, by what this answer tells of both."""
        decision, judge = self._decision, self._judge
        if judge is None or decision.then is None:
            return False
        seen = Evidence(mean, self._least)
        large = decision.offer(decision.then)
        self._keep = judge.kept(decision.offer(decision.size).quality, seen)
        self._rescue = judge.rescued(large.size, large.quality, seen)
        return self._rescue - decision.exchange_rate * large.cost > self._keep

    def _escalate(self, when: str) -> Verdict:
        self.why = f"right with {self._keep:.2f} {when}, {self._decision.then} with {self._rescue:.2f}"
        return Verdict.ESCALATE

    def _runs_away(self) -> Verdict:
        count = len(self.token_ids)
        if not self._guarded or (count - self._looked < _LOOK_TOKENS and count < self._most_tokens):
            return Verdict.HOLD
        self._looked = count
        if count >= self._most_tokens:
            self.why = f"longer than {self._most_tokens} tokens, {self._expected_tokens:.0f} were expected"
        elif repeats(self.token_ids):
            self.why = "repeats itself"
        else:
            return Verdict.HOLD
        may = self._routing.guard.action is GuardAction.ESCALATE and not self.sent
        return Verdict.ESCALATE if may else Verdict.STOP
