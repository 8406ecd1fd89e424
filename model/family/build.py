"""Rebuilds the family from nothing: `python -m model.family.build teacher nano-9b nano-2b report`.

Two cores need about 40 minutes for the teacher and 30 for the students with their baselines. Runs and reports lie in
build/family/; an interrupted command goes on where it stopped when called again.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.family.answers import evaluate_folder
from model.family.checkpoint import save_checkpoint
from model.family.distill import EVALUATION_SEED, DistillProgress, DistillReport, DistillSettings, RunReport, distill
from model.family.optimize import Schedule
from model.family.report import STAND_IN, family_report
from model.family.sizes import stand_in_config
from model.family.tokenizer import pieces, save_tokenizer
from model.family.train import TrainSettings, train

CHECKPOINTS: Final = Path("model/family/checkpoints")  # from the repository root: reports name no machine's paths
WORK: Final = Path("build/family")
NUM_EVAL_TASKS: Final = 990  # 30 of each kind and level
TEACHER_STEPS: Final = 6500
# Steps chosen for a clear gradient between the sizes within half an hour of two cores.
STUDENT_STEPS: Final = {"nano-9b": 2500, "nano-2b": 2000}
# As a user has it: some chats with answers, and many more prompts without, which only a teacher can make use of.
STUDENT_DATA: Final = "tasks:9:6000"
STUDENT_PROMPTS: Final = "tasks:11:24000"


def _bar(name: str) -> tuple[Progress, Callable[[str, int, int, str], None]]:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn()
    )
    row = bar.add_task(name, total=None, note="compiling")

    def show(what: str, done: int, total: int, note: str) -> None:
        bar.update(row, description=what, total=total, completed=done, note=f"{done}/{total} {note}")
        if not bar.console.is_terminal:
            bar.console.print(f"{what} {done}/{total} {note}", soft_wrap=True)

    return bar, show


def _write_report(name: str, value: dict[str, Any]) -> None:
    (WORK / f"{name}.json").write_text(json.dumps(value, indent=1, default=str) + "\n")


def build_teacher() -> None:
    """Trains nano-27b and writes its checkpoint and report."""
    WORK.mkdir(parents=True, exist_ok=True)
    save_tokenizer(WORK / "tokenizer")
    schedule = Schedule(TEACHER_STEPS)
    settings = TrainSettings(
        config=stand_in_config("nano-27b", len(pieces())),
        tokenizer=WORK / "tokenizer",
        data="tasks:27",
        seed=7,
        schedule=schedule,
        state=WORK / "nano-27b.run",
        resume=True,
    )
    bar, show = _bar("nano-27b")
    with bar:
        model, report = train(settings, lambda point: show("nano-27b", point.step, point.steps, point.note))
    out = CHECKPOINTS / "nano-27b"
    save_checkpoint(model, out, settings.tokenizer, STAND_IN.format(name="nano-27b"))
    score = evaluate_folder(out, NUM_EVAL_TASKS, EVALUATION_SEED)
    _write_report(
        "nano-27b",
        {
            "name": "nano-27b",
            "parameters": model.num_parameters(),
            "settings": {"data": settings.data, "seed": settings.seed, **asdict(schedule)},
            "run": {**asdict(report), "score": score.as_json()},
            "baseline": None,
        },
    )


def student_settings(name: str) -> DistillSettings:
    """How a student is distilled."""
    start = WORK / f"{name}.start"
    stand_in_config(name, len(pieces())).save_pretrained(start)
    return DistillSettings(
        teacher=CHECKPOINTS / "nano-27b",
        student=start,
        data=STUDENT_DATA,
        prompts=STUDENT_PROMPTS,
        labels=WORK / "labels.jsonl",  # made once for both
        out=WORK / name,
        steps=STUDENT_STEPS[name],
        seed=9,
        resume=True,
        with_baseline=True,
        num_eval_tasks=NUM_EVAL_TASKS,
    )


def build_student(name: str) -> None:
    """Distils one student, trains its baseline, writes its checkpoint and report."""
    settings = student_settings(name)
    bar, show = _bar(name)

    def tell(progress: DistillProgress) -> None:
        note = progress.point.note if progress.point else ""
        show(f"{name} {progress.phase}", progress.done, progress.total, note)

    with bar:
        report = distill(settings, tell)
    shutil.copytree(settings.out, CHECKPOINTS / name, dirs_exist_ok=True)
    _write_report(name, _student_report(name, report))


def _student_report(name: str, report: DistillReport) -> dict[str, Any]:
    def run(part: RunReport | None) -> dict[str, Any] | None:
        return None if part is None else {**asdict(part), "score": part.score and part.score.as_json()}

    return {
        "name": name,
        "parameters": report.parameters,
        "settings": asdict(report.settings),
        "run": run(report.student),
        "baseline": run(report.baseline),
    }


def main() -> None:
    """Runs the commands named on the command line, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["teacher", "nano-9b", "nano-2b", "report"])
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for part in chosen.parts:
        if part == "teacher":
            build_teacher()
        elif part == "report":
            family_report(WORK, CHECKPOINTS)
        else:
            build_student(part)


if __name__ == "__main__":
    main()
