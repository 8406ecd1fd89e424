"""What replicas do: batch, blocks, prefix cache, steps."""

from typing import Final

from helm.dashboards.board import Board, Panel, Row, Values, now, rate, total

REPLICA: Final = "size, replica"
PER_SLOT: Final = f"{now('gemmule_ongoing_requests', 'size')} / {now('gemmule_slots', 'size')}"
"""Ongoing requests over what the replicas of a size decode at once."""
_STEP_S: Final = "gemmule_engine_step_seconds_total"
_TOKENS: Final = "gemmule_engine_tokens_total"
_PREFIX: Final = "gemmule_engine_prefix_tokens_total"
_GUESSES: Final = "gemmule_engine_draft_tokens_total"


def _blocks(**labels: Values) -> str:
    return total(now("gemmule_engine_blocks", f"{REPLICA}, state", **labels), REPLICA)


_QUEUE: Final = Row(
    "Queue and batch",
    (
        Panel("Running", "Sequences in the batch.", "none", now("gemmule_engine_running", REPLICA), "{{replica}}"),
        Panel(
            "Waiting",
            "Above 0 for long: more replicas, or a larger `max_running`.",
            "none",
            now("gemmule_engine_waiting", REPLICA),
            "{{replica}}",
        ),
        Panel("Requests per slot", "Above 1 a tier spills to a neighbour.", "none", PER_SLOT, "{{size}}"),
    ),
)
_BLOCKS: Final = Row(
    "Keys and values",
    (
        Panel(
            "Blocks in use",
            "Share of a replica's blocks; near 1 together with preemptions: more `kv_tokens`.",
            "percentunit",
            f"{_blocks(state='used')} / {_blocks()}",
            "{{replica}}",
        ),
        Panel(
            "Blocks kept for a prefix",
            "Given up when needed, so a full cache is no fault.",
            "percentunit",
            f"{_blocks(state='cached')} / {_blocks()}",
            "{{replica}}",
        ),
        Panel(
            "Preemptions",
            "A second; each is work done twice.",
            "none",
            rate("gemmule_engine_preemptions_total", REPLICA),
            "{{replica}}",
        ),
        Panel(
            "Prefix cache",
            "Share of prompt tokens that were found in it.",
            "percentunit",
            f"{rate(_PREFIX, 'size', result='hit')} / {rate(_PREFIX, 'size', result='asked')}",
            "{{size}}",
        ),
        Panel(
            "Memory",
            "Of rank 0, by what it holds; fixed at the start.",
            "bytes",
            now("gemmule_engine_memory_bytes", f"{REPLICA}, what"),
            "{{replica}} {{what}}",
        ),
    ),
)
_STEPS: Final = Row(
    "Steps",
    (
        Panel(
            "Tokens computed",
            "Of prompts, answers and guesses, a second.",
            "none",
            rate(_TOKENS, "size", kind="computed"),
            "{{size}}",
        ),
        Panel("Tokens written", "Of answers, a second.", "none", rate(_TOKENS, "size", kind="output"), "{{size}}"),
        Panel(
            "Tokens in a step",
            "Mean size of the batch, prompts too.",
            "none",
            f"{rate(_TOKENS, 'size', kind='computed')} / {rate('gemmule_engine_steps_total', 'size')}",
            "{{size}}",
        ),
        Panel(
            "Time of a step",
            "Mean. Steps as ever and a long queue: more replicas.",
            "s",
            f"{rate(_STEP_S, REPLICA)} / {rate('gemmule_engine_steps_total', REPLICA)}",
            "{{replica}}",
        ),
        Panel(
            "How busy the loop is",
            "1: it never rests. 0 while sequences run: it is stuck. Alert: GemmuleStuck.",
            "percentunit",
            rate(_STEP_S, REPLICA),
            "{{replica}}",
        ),
        Panel(
            "Parts of a step",
            "Share of the time; nearly all should be `forward`.",
            "percentunit",
            f"{rate(_STEP_S, 'size, part')} / on (size) group_left () {rate(_STEP_S, 'size')}",
            "{{size}} {{part}}",
        ),
        Panel(
            "Guesses that were right",
            "Share of the tokens that a step verified.",
            "percentunit",
            f"{rate(_GUESSES, 'size', result='accepted')} / {rate(_GUESSES, 'size')}",
            "{{size}}",
        ),
    ),
)

ENGINE: Final = Board("gemmule-engine", "gemmule: engine", (_QUEUE, _BLOCKS, _STEPS))
