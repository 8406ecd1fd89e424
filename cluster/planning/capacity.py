"""How many requests per second one replica carries within an SLO. Pure.

Requests come at random (Poisson), or as much more unevenly as a dispersion says. With rate r, a step takes T = step_s /
(1 - r w), where w are the seconds that a request adds to steps altogether, prompt and answer; that is Little's law for
the sequences that decode at once. Prompts wait for each other as in G/G/1 (J. Kingman, 1961), the wait's tail taken as
exponential; who comes in a bunch of a geometric number waits for the bunch. A sequence's mean step strays from T as
others come and go, and as prompts come between: taken as normal.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.planning.demand import AT_RANDOM, Bursts, Lengths
from cluster.routing.solve import Floats
from cluster.speed import Speed

_STEPS: Final = 20  # of a bisection: to a millionth
_SURE: Final = 2.33  # standard deviations that slots and memory have to spare: 99 of 100 instants


class Bound(StrEnum):
    """What keeps a replica from carrying more."""

    TTFT = "time to the first token: prompts wait for each other"
    TPOT = "time per output token: too many decode at once"
    E2E = "time of a whole answer"
    SLOTS = "slots: requests that decode at once"
    KV = "memory for keys and values"
    COMPUTE = "every second of a step"


@dataclass(frozen=True, slots=True)
class Slo:
    """What `share` of the requests of each size have to keep; None is not asked for."""

    share: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def looser(self, factor: float) -> "Slo":
        """With times so much longer."""
        times = (self.ttft_s, self.tpot_s, self.e2e_s)
        return Slo(self.share, *(None if each is None else each * factor for each in times))


@dataclass(frozen=True, slots=True)
class Expected:
    """At one rate. `kept` [N] is the chance that a request of those lengths keeps everything."""

    step_s: float
    decoding: float  # sequences at once, on average
    kv_tokens: float  # that they hold, in 99 of 100 instants
    slots: float  # that they take, likewise
    kept: Floats
    by_time: dict[Bound, float]  # share that keeps each time, whatever the others


@dataclass(frozen=True, slots=True)
class Carried:
    """The most that a replica carries, and what it is bound by. 0 per second: not even one request at a time."""

    per_s: float
    bound: Bound
    share: float  # of requests that keep the SLO at that rate


def carried(speed: Speed, lengths: Lengths, slo: Slo, bursts: Bursts = AT_RANDOM) -> Carried:
    """The highest rate at which the SLO is kept, found by halving: what is kept only falls with the rate."""
    low, high = 0.0, 1.0 / _work_s(speed, lengths)
    if failing(speed, lengths, slo, high * 1e-6, bursts) is not None:
        found = expected(speed, lengths, slo, high * 1e-6)
        bound = failing(speed, lengths, slo, high * 1e-6, bursts)
        return Carried(0.0, bound or Bound.COMPUTE, 0.0 if found is None else float(found.kept.mean()))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if failing(speed, lengths, slo, middle, bursts) is None else (low, middle)
    at = expected(speed, lengths, slo, low, bursts)
    return Carried(
        low, failing(speed, lengths, slo, high, bursts) or Bound.COMPUTE, float(at.kept.mean()) if at else 1.0
    )


def failing(speed: Speed, lengths: Lengths, slo: Slo, per_s: float, bursts: Bursts = AT_RANDOM) -> Bound | None:
    """What is broken at a rate; None: nothing."""
    found = expected(speed, lengths, slo, per_s, bursts)
    if found is None:
        return Bound.COMPUTE
    if found.kv_tokens > speed.kv_tokens:
        return Bound.KV
    if found.slots > speed.slots:
        return Bound.SLOTS
    if float(found.kept.mean()) < slo.share:
        return min(found.by_time, key=lambda bound: found.by_time[bound], default=Bound.COMPUTE)
    return None


def expected(speed: Speed, lengths: Lengths, slo: Slo, per_s: float, bursts: Bursts = AT_RANDOM) -> Expected | None:
    """At a rate; None when steps cannot keep up."""
    busy = per_s * _work_s(speed, lengths)
    if busy >= 1:
        return None
    step_s = speed.step_s / (1 - busy)
    uneven = bursts.among(per_s)
    steps = lengths.output
    contexts = lengths.prompt + steps / 2
    decoding = per_s * step_s * float(steps.mean())
    held = per_s * step_s * float((steps * contexts).mean())
    strays = _SURE * sqrt(uneven * per_s * step_s * float((steps * contexts**2).mean()))
    decode_s = decoding * speed.decode_s_per_sequence + held * speed.decode_s_per_context_token
    waiting = _Waiting.of(speed, lengths, per_s, uneven, speed.step_s + decode_s, decoding)
    if waiting is None:
        return None
    tokens = _Tokens.of(speed, lengths, per_s, uneven, step_s, decoding, decode_s)
    by_time = _by_time(slo, lengths, waiting, tokens)
    kept = np.ones(len(steps))
    for chance in by_time.values():
        kept = kept * chance
    kv = held + strays + float(contexts.mean())
    slots = decoding + _SURE * sqrt(uneven * decoding) + 1
    return Expected(step_s, decoding, kv, slots, kept, {bound: float(each.mean()) for bound, each in by_time.items()})


def _work_s(speed: Speed, lengths: Lengths) -> float:
    """Seconds that a request adds to steps, on average."""
    contexts = lengths.prompt + lengths.output / 2
    decode = speed.decode_s_per_sequence + contexts * speed.decode_s_per_context_token
    return float((lengths.prompt * speed.prefill_s_per_token + lengths.output * decode).mean())


@dataclass(frozen=True, slots=True)
class _Waiting:
    """For a prompt's turn: it waits with this chance, and then the wait is exponential with this mean."""

    chance: float
    mean_s: float
    own_s: Floats  # [N] from its turn to its first token

    @classmethod
    def of(
        cls, speed: Speed, lengths: Lengths, per_s: float, uneven: float, empty_s: float, decoding: float
    ) -> "_Waiting | None":
        room = max(16.0, speed.max_step_tokens - decoding)  # tokens of prompts in a step
        serve_s = lengths.prompt * (speed.prefill_s_per_token + empty_s / room)
        mean_s = float(serve_s.mean())
        busy = per_s * mean_s
        if busy >= 1:
            return None
        own_s = empty_s * (1 + np.ceil(lengths.prompt / room)) + lengths.prompt * speed.prefill_s_per_token
        varies = float((serve_s**2).mean()) / mean_s**2 - 1
        wait_s = mean_s * busy / (1 - busy) * (uneven + varies) / 2
        chance = 1 - (1 - busy) / ((uneven + 1) / 2)  # who comes beside others waits for them, whoever is there
        return cls(chance, wait_s / chance, own_s)

    def within(self, left_s: Floats) -> Floats:
        """Chance that the wait is over after what is left, [N]; none where nothing is left."""
        late = self.chance * np.exp(-np.maximum(left_s, 0.0) / self.mean_s)
        return np.where(left_s >= 0, 1 - late, 0.0)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Mean step of a sequence while it decodes: T, and how far it strays, [N]."""

    step_s: float
    strays_s: Floats

    @classmethod
    def of(
        cls,
        speed: Speed,
        lengths: Lengths,
        per_s: float,
        uneven: float,
        step_s: float,
        decoding: float,
        decode_s: float,
    ) -> "_Tokens":
        others_s = decode_s * sqrt(uneven / decoding) if decoding > 0 else 0.0
        others_s *= step_s / speed.step_s  # one more sequence also makes all others stay longer
        alive_s = lengths.output * step_s
        prompts_s = np.sqrt(uneven * per_s * alive_s * float((lengths.prompt**2).mean())) * speed.prefill_s_per_token
        return cls(step_s, np.sqrt(others_s**2 + (prompts_s / lengths.output) ** 2))

    def within(self, limit_s: Floats | float) -> Floats:
        """Chance that the mean step is at most so long, [N]."""
        return normal((limit_s - self.step_s) / np.maximum(self.strays_s, 1e-12))


def _by_time(slo: Slo, lengths: Lengths, waiting: _Waiting, tokens: _Tokens) -> dict[Bound, Floats]:
    found: dict[Bound, Floats] = {}
    if slo.ttft_s is not None:
        found[Bound.TTFT] = waiting.within(slo.ttft_s - waiting.own_s)
    if slo.tpot_s is not None:
        found[Bound.TPOT] = np.where(lengths.output > 1, tokens.within(slo.tpot_s), 1.0)
    if slo.e2e_s is not None:
        decode_s = (lengths.output - 1) * (tokens.step_s + tokens.strays_s)
        found[Bound.E2E] = waiting.within(slo.e2e_s - waiting.own_s - decode_s)
    return found


def normal(z: Floats | NDArray[np.float64]) -> Floats:
    """Distribution function of the normal distribution, by a logistic curve within 0.0002 (Bowling et al., 2009)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(0.07056 * z**3 + 1.5976 * z, -60, 60))), np.float64)
