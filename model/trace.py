"""A profile as a Chrome trace, which Perfetto and chrome://tracing draw.

Source: "Trace Event Format" (Google, 2016): times in microseconds, `X` a stretch of time, `C` a number over time, `i`
an instant, `M` a name. Stretches of one thread nest by their times.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from model.instruments import PARTS, StepRecord
from model.profile import Profile

_THREAD = 1


def chrome_trace(profile: Profile) -> dict[str, Any]:
    """Every step as a stretch of its parts, with what it worked on; time 0 is the first step or the window's begin."""
    zero_s = min([profile.began_s, *(step.began_s for step in profile.steps[:1])])
    events = [
        _event(profile, "M", "process_name", args={"name": profile.replica}),
        _event(profile, "M", "thread_name", args={"name": "engine"}),
        _event(profile, "i", "the window begins", ts=_us(profile.began_s - zero_s), s="p"),
    ]
    for step in profile.steps:
        events += _of_step(profile, step, step.began_s - zero_s)
    facts = {"replica": profile.replica, "steps_left_out": profile.left_out}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": facts}


def _of_step(profile: Profile, step: StepRecord, began_s: float) -> Iterator[dict[str, Any]]:
    edges = [_us(edge) for edge in accumulate(step.part_s, initial=began_s)]
    did = {
        "tokens": step.tokens,
        "sequences": step.sequences,
        "output_tokens": step.output_tokens,
        "draft_tokens": step.draft_tokens,
        "accepted_tokens": step.accepted_tokens,
    }
    yield _event(profile, "X", "step", ts=edges[0], dur=round(edges[-1] - edges[0], 3), args=did)
    for name, begin, end in zip(PARTS, edges, edges[1:], strict=False):
        yield _event(profile, "X", name, ts=begin, dur=round(end - begin, 3))
    yield _event(profile, "C", "batch", ts=edges[0], args={"sequences": step.sequences})


def _event(profile: Profile, phase: str, name: str, **more: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "pid": profile.pid, "tid": _THREAD, **more}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
