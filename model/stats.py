"""An engine in numbers, for whoever operates it; routing gets by with `model.contract.EngineLoad`."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.capacity import Capacity
from model.instruments import PARTS, StepStats
from model.scheduler import SchedulerLoad


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Now: sequences, blocks, bytes. Since the start: all the rest.

    A block is free (holds nothing), cached (held by nobody, can be found by a prefix) or used: three states, no fourth.
    """

    running: int
    waiting: int
    free_blocks: int
    cached_blocks: int
    used_blocks: int
    total_blocks: int
    preemptions: int
    prefix_hit_tokens: int
    prefix_asked_tokens: int  # prompt tokens that were looked up
    accepted_draft_tokens: int
    rejected_draft_tokens: int
    steps: int
    computed_tokens: int  # of prompts, answers and guesses; those of a preempted sequence again
    output_tokens: int
    part_s: Mapping[str, float]  # part of a step -> seconds
    weight_bytes: int  # on rank 0
    kv_bytes: int  # on rank 0


def stats_of(load: SchedulerLoad, total: StepStats, capacity: Capacity) -> EngineStats:
    """One value of what scheduler, instruments and start know."""
    return EngineStats(
        running=load.running,
        waiting=load.waiting,
        free_blocks=load.free_blocks - load.idle_blocks,
        cached_blocks=load.idle_blocks,
        used_blocks=load.total_blocks - load.free_blocks,
        total_blocks=load.total_blocks,
        preemptions=load.preemptions,
        prefix_hit_tokens=load.prefix_hit_tokens,
        prefix_asked_tokens=load.prefix_asked_tokens,
        accepted_draft_tokens=total.accepted_tokens,
        rejected_draft_tokens=total.draft_tokens - total.accepted_tokens,
        steps=total.steps,
        computed_tokens=total.tokens,
        output_tokens=total.output_tokens,
        part_s=dict(zip(PARTS, total.part_s, strict=True)),
        weight_bytes=capacity.weight_bytes,
        kv_bytes=capacity.kv_bytes,
    )
