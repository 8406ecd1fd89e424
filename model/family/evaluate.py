"""The score of a family member: unseen tasks, graded answers, a table. No torch here: any client can be scored."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from model.family.tasks.generator import evaluation_tasks
from model.family.tasks.grade import grade
from model.family.tasks.task import GRADED, LEVELS, Task

__all__ = ["Cell", "Result", "ScoreTable", "evaluation_tasks", "grade", "score_table"]


@dataclass(frozen=True, slots=True)
class Result:
    """One answered task."""

    task: Task
    answer: str

    @property
    def right(self) -> bool:
        """Whether the answer gives the expected value."""
        return grade(self.task, self.answer)


@dataclass(frozen=True, slots=True)
class Cell:
    """How many of some tasks were answered right."""

    right: int
    tasks: int

    @property
    def share(self) -> float:
        """Right answers in [0, 1]; 0 when nothing was asked."""
        return self.right / self.tasks if self.tasks else 0.0


def _cell(results: Iterable[Result]) -> Cell:
    marks = [result.right for result in results]
    return Cell(sum(marks), len(marks))


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores overall, by kind, by level and by both (`arithmetic/3`)."""

    overall: Cell
    by_kind: dict[str, Cell]
    by_level: dict[int, Cell]
    by_cell: dict[str, Cell]

    def as_json(self) -> dict[str, Any]:
        """The table as plain values, the overall share first."""
        return {"score": round(self.overall.share, 4), **asdict(self)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ScoreTable":
        """What `as_json` made, after a round through a file."""

        def cells(name: str) -> dict[str, Cell]:
            return {key: Cell(**cell) for key, cell in value[name].items()}

        by_level = {int(level): cell for level, cell in cells("by_level").items()}
        return ScoreTable(Cell(**value["overall"]), cells("by_kind"), by_level, cells("by_cell"))

    def markdown(self) -> str:
        """A row per kind, a column per level."""
        lines = [
            "| kind | " + " | ".join(f"level {level}" for level in LEVELS) + " | all |",
            "|---" * (len(LEVELS) + 2) + "|",
        ]
        for kind, cell in self.by_kind.items():
            shares = (self.by_cell.get(f"{kind}/{level}", Cell(0, 0)).share for level in LEVELS)
            lines.append(f"| {kind} | " + " | ".join(f"{share:.2f}" for share in shares) + f" | {cell.share:.2f} |")
        levels = " | ".join(f"{self.by_level.get(level, Cell(0, 0)).share:.2f}" for level in LEVELS)
        return "\n".join([*lines, f"| **all** | {levels} | **{self.overall.share:.3f}** |"])


def score_table(results: Sequence[Result]) -> ScoreTable:
    """Counts right answers; small talk is left out, it has no right answer."""
    graded = [result for result in results if result.task.kind in GRADED]

    cells = sorted({(result.task.kind, result.task.level) for result in graded})
    return ScoreTable(
        overall=_cell(graded),
        by_kind={kind: _cell(result for result in graded if result.task.kind is kind) for kind in GRADED},
        by_level={level: _cell(result for result in graded if result.task.level == level) for level in LEVELS},
        by_cell={
            f"{kind}/{level}": _cell(
                result for result in graded if (result.task.kind, result.task.level) == (kind, level)
            )
            for kind, level in cells
        },
    )
