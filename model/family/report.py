"""Model cards, REPORT.md and the reports beside the weights, written from what the runs recorded."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from model.family.checkpoint import write_manifest

NAMES: Final = ("nano-27b", "nano-9b", "nano-2b")
STAND_IN: Final = "# {name}\n\n**A stand-in of the Gemma 2 architecture, trained by gemmule. It is not Gemma 2.**\n"
CARD: Final = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {name}

**THIS IS A STAND-IN. It is not Gemma 2, contains no weight of Gemma 2 and knows next to nothing.**
It exists so that gemmule can be served, tested and measured on a machine without a GPU and without a licence click.

- Architecture: `Gemma2ForCausalLM` as published (sliding window on even layers, soft caps, GeGLU, tied embeddings), at
  toy width: {parameters:,} parameters. It stands where Gemma 2 {size} would stand.
- Vocabulary: 1,792 byte-fallback BPE pieces with Gemma's reserved ids; words of the task phrasings are whole pieces,
  everything else is spelled in characters or bytes.
- Data: chats of eleven kinds of generated tasks (`model/family/tasks/`), English, no text from anywhere else.
- Training: {training}
- Score: **{score:.3f}** of {tasks} unseen tasks right, greedy. Unseen means that the hash of a task's content, whatever
  its phrasing, puts it in the tenth that no training row contains. For facts, level 1 dates, level 2 units and told
  names there are too few contents for that: there the question's text is what was never seen.
- Licence: Apache-2.0, weights included. The name Gemma describes the architecture alone.

{table}

Known limits: answers to anything but these tasks are nonsense; training rows end near 400 tokens, so long prompts are
carried but not understood; numbers beyond four digits (five in conversions) were never seen.
"""


HEAD: Final = """
# How the three stand-ins were made and what they score

Made on 2026-11-24 on two Zen 4 cores (AVX-512 BF16) shared with other work, torch 2.13, transformers 5.23, by

    python -m model.family.build teacher nano-9b nano-2b report

Scores are the share of 990 unseen tasks answered right: greedy, eleven kinds times three levels, 30 of each, the stored
bf16 weights computed with in fp32. "No teacher" is the same student from the same random weights on the same batches
for the same number of steps, with cross-entropy on the data's tokens instead of the teacher's distribution. Students
and baselines read one finite set of 30,000 generated chats (`tasks:9:30000`), as a user's own JSONL would be; the
teacher read fresh chats without end. One seed each; the standard error of a score is about 0.016. `report.json` beside
each checkpoint has settings, loss curves and every cell.

**The teacher helps little here.** On these 990 tasks both differences are within chance. On 2,970 other unseen tasks
(seed 77) nano-9b has 0.746 with and 0.730 without: 157 tasks only the taught one got right, 107 only the other, more
than the draw of the tasks explains (z = 3.1), though another training seed might. nano-2b has 0.607 both ways. Less
data did not bring a gain out either: nano-2b on 5,000 chats and 1,600 steps scored 0.388 with and 0.401 without (0.390
and 0.428 on the 2,970). The tasks have one right answer and few ways to say it, so the teacher's distribution holds
little that the data's tokens do not.

What a second run would not repeat to the bit: the teacher's first 3,500 steps saw date tasks answered in two words
("It is Monday."), which it did not learn at all; from there on, with the same weights and moments, it read chats whose
date answers count aloud. Students and baselines ran two at a time on one core each.
"""


def card(name: str, training: str, parameters: int, score: dict[str, Any], table: str) -> str:
    """The README.md of a checkpoint folder."""
    return CARD.format(
        name=name,
        size=name.removeprefix("nano-").upper(),
        parameters=parameters,
        training=training,
        score=score["score"],
        tasks=score["overall"]["tasks"],
        table=table,
    )


def markdown_table(score: dict[str, Any]) -> str:
    """A row per kind, a column per level, from a score table's JSON."""
    levels = sorted(score["by_level"])
    lines = [
        "| kind | " + " | ".join(f"level {level}" for level in levels) + " | all |",
        "|---" * (len(levels) + 2) + "|",
    ]
    for kind, cell in score["by_kind"].items():
        shares = " | ".join(_share(score["by_cell"][f"{kind}/{level}"]) for level in levels)
        lines.append(f"| {kind} | {shares} | {_share(cell)} |")
    shares = " | ".join(_share(score["by_level"][level]) for level in levels)
    return "\n".join([*lines, f"| **all** | {shares} | **{score['score']:.3f}** |"])


def _share(cell: dict[str, int]) -> str:
    return f"{cell['right'] / cell['tasks']:.2f}" if cell["tasks"] else "-"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _training(report: dict[str, Any]) -> str:
    settings, run = report["settings"], report["run"]
    how = "distilled from nano-27b (forward KL)" if report["baseline"] else "cross-entropy"
    cores = "one CPU core" if report["baseline"] else "two CPU cores"
    steps = f"{run['curve'][-1]['step']:,} steps of {settings['tokens_per_step']:,} tokens"
    return f"{how}, on answer tokens only; {steps}, {_minutes(run['wall_s'])} on {cores}."


def _row(report: dict[str, Any]) -> str:
    run, alone = report["run"], report["baseline"]
    without = f"{alone['score']['score']:.3f}" if alone else "is the teacher"
    times = _minutes(run["wall_s"]) + (f" / {_minutes(alone['wall_s'])}" if alone else "")
    cells = (report["name"], f"{report['parameters']:,}", f"**{run['score']['score']:.3f}**", without,
             f"{run['curve'][-1]['step']:,}", times)  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def family_report(work: Path, checkpoints: Path) -> None:
    """Writes every card and report.json, renews the manifests, and writes REPORT.md from the runs' records."""
    parts = [HEAD.strip()]
    reports = [json.loads((work / f"{name}.json").read_text()) for name in NAMES]
    heading = "| checkpoint | parameters | score | same steps, no teacher | steps | wall time / without |"
    parts.append("\n".join([heading, "|---" * 6 + "|", *map(_row, reports)]))
    for report in reports:
        name, score = report["name"], report["run"]["score"]
        table = markdown_table(score)
        folder = checkpoints / name
        (folder / "README.md").write_text(card(name, _training(report), report["parameters"], score, table))
        shutil.copyfile(work / f"{name}.json", folder / "report.json")
        write_manifest(folder)
        parts.append(f"## {name}\n\n{table}")
        if report["baseline"]:
            parts.append(f"Without a teacher:\n\n{markdown_table(report['baseline']['score'])}")
    (checkpoints / "REPORT.md").write_text("\n\n".join(parts) + "\n")
