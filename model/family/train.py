"""Trains a stand-in on chats alone: the teacher, and the baselines the students are compared with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Gemma2Config, Gemma2ForCausalLM

from model.family.corpus import IGNORED, Batch, Encoder, batches, read_chats
from model.family.optimize import LossOf, Point, Progress, RunState, Schedule, body_of, capped_logits, optimise


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One training run. `data` is `tasks:<seed>` or a JSONL of chats, `state` the folder it resumes from."""

    config: Gemma2Config
    tokenizer: Path
    data: str
    seed: int
    schedule: Schedule
    state: Path | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run cost and how its loss (nats per answer token) fell."""

    curve: list[Point]
    wall_s: float


def new_model(config: Gemma2Config, seed: int) -> Gemma2ForCausalLM:
    """Random fp32 weights, the same for the same seed; eager attention, the one that applies the soft cap."""
    torch.manual_seed(seed)
    fresh = Gemma2Config.from_dict({**config.to_dict(), "dtype": "float32"})
    fresh._attn_implementation = "eager"
    return Gemma2ForCausalLM(fresh)


def stream(tokenizer: Path, sources: Sequence[str], seed: int, tokens: int) -> Iterator[Batch]:
    """The batches of a run: a function of its sources of chats and its seed alone."""
    encoder = Encoder(Tokenizer.from_file(str(tokenizer / "tokenizer.json")))
    return batches((encoder.row(chat) for chat in read_chats(*sources)(seed)), tokens, seed)


def answer_loss(model: Gemma2ForCausalLM, compiled: bool) -> LossOf:
    """Mean cross-entropy over the answers' tokens; prompts are read, not learned."""
    body = body_of(model, compiled)

    def loss_of(batch: Batch) -> Tensor:
        wanted = batch.targets != IGNORED  # [B, L]
        return cross_entropy(capped_logits(model, body(batch.ids)[wanted]), batch.targets[wanted])

    return loss_of


def train(settings: TrainSettings, progress: Progress | None = None) -> tuple[Gemma2ForCausalLM, TrainReport]:
    """Trains from random weights (or from the saved state, if `resume`) and returns the fp32 model."""
    model = new_model(settings.config, settings.seed)
    rows = stream(settings.tokenizer, [settings.data], settings.seed, settings.schedule.tokens_per_step)
    curve, wall_s = optimise(
        model,
        rows,
        answer_loss(model, settings.schedule.compile),
        settings.schedule,
        RunState(settings.state),
        settings.resume,
        progress,
    )
    return model.eval(), TrainReport(curve, wall_s)
