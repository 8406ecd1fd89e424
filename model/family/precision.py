"""What a narrower precision costs the embedded family: the same unseen tasks through the engine, in each of four.

usage: python -m model.family.precision [--tasks 330] [--seed 1] [--names nano-27b,…] [--json FILE]

Greedy, 32 requests at once. Answers are compared with those of fp32 one by one, since shares of right answers alone
wander by some 0.02 with the draw of 330 tasks.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from model.config import Dtype, EngineConfig, Quantization
from model.engine import Engine
from model.events import Failed, TokenEvent
from model.family.answers import LONGEST_ANSWER_TOKENS
from model.family.evaluate import Result, evaluation_tasks, score_table
from model.family.tasks.task import Task
from model.prompt import Prompter, Role, Turn
from model.request import GenerationRequest, RequestId, SamplingParams
from model.source import EMBEDDED_FOLDER

NAMES: Final = ("nano-27b", "nano-9b", "nano-2b")
PRECISIONS: Final = {
    "fp32": EngineConfig(),
    "bf16": EngineConfig(dtype=Dtype.BF16),
    "int8": EngineConfig(dtype=Dtype.BF16, quantization=Quantization.INT8),
    "int4": EngineConfig(dtype=Dtype.BF16, quantization=Quantization.INT4),
}
CONCURRENCY: Final = 32
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint in one precision."""

    checkpoint: str
    precision: str
    weight_bytes: int
    logit_difference: float | None  # largest, to the golden logits
    tasks: int
    right_share: float
    same_share: float  # answers that are fp32's to the letter
    lost: int  # tasks that fp32 alone got right
    gained: int  # tasks that this alone got right


async def rows_of(folder: Path, tasks: Sequence[Task]) -> list[Row]:
    """A row per precision, fp32 first."""
    rows: list[Row] = []
    oracle: list[Result] = []
    for precision, config in PRECISIONS.items():
        engine = Engine(folder, config)
        await engine.start()
        try:
            results = await answers(engine, Prompter(folder / "tokenizer.json"), tasks)
        finally:
            await engine.close()
        oracle = oracle or results
        pairs = list(zip(oracle, results, strict=True))
        rows.append(
            Row(
                checkpoint=folder.name,
                precision=precision,
                weight_bytes=engine.capacity.weight_bytes,
                logit_difference=engine.logit_difference,
                tasks=len(tasks),
                right_share=score_table(results).overall.share,
                same_share=sum(theirs.answer == ours.answer for theirs, ours in pairs) / len(pairs),
                lost=sum(theirs.right and not ours.right for theirs, ours in pairs),
                gained=sum(ours.right and not theirs.right for theirs, ours in pairs),
            )
        )
    return rows


async def answers(engine: Engine, prompter: Prompter, tasks: Sequence[Task]) -> list[Result]:
    """Each task with its greedy answer, in the order asked."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def answer(index: int, task: Task) -> Result:
        ids = prompter.chat([Turn(Role(message["role"]), message["content"]) for message in task.messages])
        params = SamplingParams(LONGEST_ANSWER_TOKENS, temperature=0.0)
        text = ""
        async with gate, aclosing(
            engine.submit(GenerationRequest(RequestId(f"task-{index}"), ids, params, _TIMEOUT_S))
        ) as events:  # fmt: skip
            async for event in events:
                if isinstance(event, Failed):
                    raise RuntimeError(event.fault.message)
                text += event.text if isinstance(event, TokenEvent) else ""
        return Result(task, text)

    return await asyncio.gather(*(answer(index, task) for index, task in enumerate(tasks)))


def markdown(rows: Sequence[Row]) -> str:
    """The table for the docs."""
    lines = [
        "| checkpoint | precision | weights | right | lost / gained against fp32 | same answer | logits off by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        off = "–" if row.logit_difference is None else f"{row.logit_difference:.2g}"
        cells = (row.checkpoint, row.precision, f"{row.weight_bytes / 1e6:.1f} MB", f"{row.right_share:.3f}",
                 f"{row.lost} / {row.gained}", f"{row.same_share:.3f}", off)  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Evaluate, print the table, and write it as JSON beside it where asked."""
    parser = argparse.ArgumentParser(description="What a narrower precision costs the embedded family.")
    parser.add_argument("--tasks", type=int, default=330)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tasks = evaluation_tasks(options.tasks, options.seed)
    rows = [row for name in options.names.split(",") for row in asyncio.run(rows_of(EMBEDDED_FOLDER / name, tasks))]
    print(markdown(rows))
    if options.json:
        record = {"tasks": options.tasks, "seed": options.seed, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
