"""Model cards, REPORT.md and the reports beside the weights, written from what the runs recorded."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from model.family.checkpoint import write_manifest
from model.family.evaluate import ScoreTable

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

Made on 2026-11-24 by

    python -m model.family.build teacher nano-9b nano-2b report

torch 2.13, transformers 5.23; teacher and nano-9b on two Zen 4 cores (AVX-512 BF16), nano-2b in fp32 on a Zen 3 core,
each shared with other work, so wall times say little. Scores are the share of 990 unseen tasks answered right:
greedy, eleven kinds times three levels, 30 of each, the stored bf16 weights computed with in fp32. "No teacher" is
the same student from the same random weights for the same number of steps, with cross-entropy on the data's tokens
instead of the teacher's distribution. One seed each; the standard error of a score is about 0.016. `report.json`
beside each checkpoint has settings, loss curves and every cell.

**What a teacher is worth depends on what the student has without it.**

- nano-2b is made as a user would make one: 6,000 chats with answers (`tasks:9:6000`), and 24,000 prompts without
  (`tasks:11:24000`), which the teacher answers (`--prompts`). Without a teacher those prompts are of no use, and the
  student has the 6,000 chats alone: 0.616 with and 0.490 without a teacher on these 990 tasks (167 right only with,
  42 only without, z = 8.6); 0.612 and 0.510 on 2,970 others (seed 77; 481 and 179, z = 11.8). Read beside it: the
  same student on 30,000 chats that *all* have right answers, without a teacher, scored 0.609 and 0.607. So the
  teacher's answers, some 7 % of them wrong, did what 24,000 labels do, and no more. The Gemma 2 report (2024, section
  3) gives the same reason to distil: it stands in for tokens that there are not.
- nano-9b was made on 30,000 chats with answers, student and baseline alike: 0.743 with and 0.732 without, which alone
  is chance; on the 2,970 others 0.746 and 0.730 (157 right only with, 107 only without, z = 3.1). A small gain: the
  tasks have one right answer and few ways to say it, so where every chat has its answer the teacher's distribution
  holds little more. nano-2b gained nothing in that way (0.603 and 0.609).

What a second run would not repeat to the bit: the teacher's first 3,500 steps saw date tasks answered in two words
("It is Monday."), which it did not learn at all; from there on, with the same weights and moments, it read chats
whose date answers count aloud. The command above now makes nano-9b with `--prompts` too.
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
        table = ScoreTable.from_json(score).markdown()
        folder = checkpoints / name
        (folder / "README.md").write_text(card(name, _training(report), report["parameters"], score, table))
        shutil.copyfile(work / f"{name}.json", folder / "report.json")
        write_manifest(folder)
        parts.append(f"## {name}\n\n{table}")
        if report["baseline"]:
            parts.append(f"Without a teacher:\n\n{ScoreTable.from_json(report['baseline']['score']).markdown()}")
    (checkpoints / "REPORT.md").write_text("\n\n".join(parts) + "\n")
