"""Distillation as in the Gemma 2 report (2024): the student learns the teacher's distribution, not one sample of it.

loss = w * T^2 * KL(teacher || student) + (1 - w) * cross-entropy of the data's own tokens, over the answers' tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoConfig, Gemma2Config, Gemma2ForCausalLM

from model.errors import CheckpointError
from model.family.answers import answer_tasks
from model.family.checkpoint import load_model, save_checkpoint
from model.family.corpus import IGNORED, Batch
from model.family.evaluate import ScoreTable, evaluation_tasks, score_table
from model.family.labelling import label_prompts
from model.family.optimize import LossOf, Point, RunState, Schedule, body_of, capped_logits, optimise
from model.family.report import STAND_IN
from model.family.train import answer_loss, new_model, stream

Phase = Literal["labels", "student", "baseline"]
EVALUATION_SEED: Final = 2026


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """One distillation.

    `teacher`: any Gemma2ForCausalLM folder. `student`: a folder to start from, or a config.json (or a folder that holds
    one without weights) to initialise. `data`: a JSONL of chats, `tasks:<seed>` (fresh chats without end) or
    `tasks:<seed>:<count>`. `prompts`: as `data` with an end, but only what users ask is taken: the teacher answers, and
    the student (not the baseline) reads that beside `data`. `labels`: the file that keeps those answers, by default in
    `<out>.run`. `out`: the folder to write; what a later `resume` needs lies beside it in `<out>.run`.
    `kl_weight`: share of the teacher's term in [0, 1]. `with_baseline`: also trains the same student, from the same
    start, for the same number of steps, without the teacher: `data` is all it has. `num_eval_tasks`: unseen tasks both
    are scored on; 0 for none.
    """

    teacher: Path
    student: Path
    data: str
    out: Path
    steps: int
    prompts: str | None = None
    labels: Path | None = None
    max_label_tokens: int = 64
    seed: int = 0
    temperature: float = 1.0
    kl_weight: float = 1.0
    learning_rate: float = 2e-3
    tokens_per_step: int = 4096
    warmup_steps: int = 100
    save_every: int = 500
    resume: bool = False
    with_baseline: bool = False
    num_eval_tasks: int = 660
    compile: bool = True


@dataclass(frozen=True, slots=True)
class DistillProgress:
    """How far a phase is; those that train give a reading with it."""

    phase: Phase
    done: int  # steps, or chats answered
    total: int
    point: Point | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run: its loss curve, cost, and score on unseen tasks if asked for."""

    curve: list[Point]
    wall_s: float
    score: ScoreTable | None


@dataclass(frozen=True, slots=True)
class DistillReport:
    """Both runs side by side; the loss of `student` is the mixed one, that of `baseline` plain cross-entropy."""

    settings: DistillSettings
    parameters: int
    student: RunReport
    baseline: RunReport | None


def _has_weights(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.safetensors"))


def start_student(path: Path, seed: int) -> Gemma2ForCausalLM:
    """The student before training, in fp32: its weights where the path has any, else random ones from the seed."""
    if _has_weights(path):
        return load_model(path)
    config = AutoConfig.from_pretrained(path)
    if not isinstance(config, Gemma2Config):
        raise CheckpointError(f"student: {path} is a {config.model_type} configuration; only gemma2 can be distilled")
    return new_model(config, seed)


def _vocabulary(folder: Path) -> dict[str, int] | None:
    file = (folder if folder.is_dir() else folder.parent) / "tokenizer.json"
    return Tokenizer.from_file(str(file)).get_vocab() if file.exists() else None


def check_vocabularies(teacher: Path, student: Path) -> None:
    """Raises CheckpointError, naming both, unless an id means the same token to teacher and student."""
    sizes = [AutoConfig.from_pretrained(path).vocab_size for path in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"vocabulary: teacher {teacher} has {sizes[0]} tokens and student {student} has {sizes[1]}; "
            "distillation compares them token by token, choose two folders with one tokenizer"
        )
    known, other = _vocabulary(teacher), _vocabulary(student)
    if known is None:
        raise CheckpointError(f"vocabulary: teacher {teacher} has no tokenizer.json; download it beside the weights")
    if other is not None and known != other:
        token = min(known.items() ^ other.items(), key=lambda item: item[1])
        raise CheckpointError(
            f"vocabulary: teacher {teacher} and student {student} differ from id {token[1]} ({token[0]!r}) on; "
            "choose two folders with one tokenizer"
        )


def teacher_loss(teacher: Gemma2ForCausalLM, student: Gemma2ForCausalLM, settings: DistillSettings) -> LossOf:
    """The module's formula, over answer positions; the teacher runs without gradients."""
    wise, learner = body_of(teacher, settings.compile), body_of(student, settings.compile)
    heat, share = settings.temperature, settings.kl_weight

    def loss_of(batch: Batch) -> Tensor:
        wanted = batch.targets != IGNORED  # [B, L]
        with torch.no_grad():
            target = log_softmax(capped_logits(teacher, wise(batch.ids)[wanted]) / heat, -1)  # [N, V]
        logits = capped_logits(student, learner(batch.ids)[wanted])  # [N, V]
        loss = share * heat**2 * kl_div(log_softmax(logits / heat, -1), target, reduction="batchmean", log_target=True)
        if share < 1:
            loss = loss + (1 - share) * cross_entropy(logits, batch.targets[wanted])
        return loss

    return loss_of


def distill(settings: DistillSettings, progress: Callable[[DistillProgress], None] | None = None) -> DistillReport:
    """Trains the student (and the baseline), writes `settings.out` and returns what came of it."""
    check_vocabularies(settings.teacher, settings.student)
    schedule = Schedule(
        settings.steps,
        settings.tokens_per_step,
        settings.learning_rate,
        settings.warmup_steps,
        save_every=settings.save_every,
        compile=settings.compile,
    )

    def tell(phase: Phase, done: int, total: int, point: Point | None = None) -> None:
        if progress is not None:
            progress(DistillProgress(phase, done, total, point))

    def run(phase: Phase, sources: list[str], student: Gemma2ForCausalLM, loss_of: LossOf) -> RunReport:
        rows = stream(settings.teacher, sources, settings.seed, settings.tokens_per_step)
        curve, wall_s = optimise(student.train(), rows, loss_of, schedule, RunState(folder / phase), settings.resume,
                                 lambda point: tell(phase, point.step, point.steps, point))  # fmt: skip
        return RunReport(curve, wall_s, _score(student, settings))

    folder = settings.out.parent / f"{settings.out.name}.run"
    teacher = load_model(settings.teacher)
    student = start_student(settings.student, settings.seed)
    sources = [settings.data]
    if settings.prompts is not None:
        labels = settings.labels or folder / "labels.jsonl"
        tokenizer = Tokenizer.from_file(str(settings.teacher / "tokenizer.json"))
        label_prompts(teacher, tokenizer, settings.prompts, labels, settings.max_label_tokens, settings.resume,
                      lambda done, total: tell("labels", done, total))  # fmt: skip
        sources.append(str(labels))
    taught = run("student", sources, student, teacher_loss(teacher, student, settings))
    save_checkpoint(student, settings.out, settings.teacher, STAND_IN.format(name=settings.out.name))
    alone = None
    if settings.with_baseline:
        other = start_student(settings.student, settings.seed)
        alone = run("baseline", [settings.data], other, answer_loss(other, settings.compile))
    return DistillReport(settings, sum(weight.numel() for weight in student.parameters()), taught, alone)


def _score(model: Gemma2ForCausalLM, settings: DistillSettings) -> ScoreTable | None:
    if not settings.num_eval_tasks:
        return None
    tokenizer = Tokenizer.from_file(str(settings.teacher / "tokenizer.json"))
    stored = Gemma2ForCausalLM(model.config)  # scored as it is stored: rounded to bf16, computed in fp32
    stored.load_state_dict({name: weight.bfloat16().float() for name, weight in model.state_dict().items()})
    return score_table(
        answer_tasks(stored.eval(), tokenizer, evaluation_tasks(settings.num_eval_tasks, EVALUATION_SEED))
    )
