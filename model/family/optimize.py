"""The training loop that teacher and students share: AdamW, warm-up and cosine, saved so that it can resume exactly."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Gemma2ForCausalLM

from model.family.corpus import Batch


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; the learning rate warms up linearly and falls along a cosine to `floor` of its peak."""

    steps: int
    tokens_per_step: int = 4096
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    floor: float = 0.02
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    save_every: int = 500
    compile: bool = True

    def rate(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass(frozen=True, slots=True)
class Point:
    """One reading of the loss curve; loss is the mean since the last reading, in nats."""

    step: int
    steps: int
    loss: float
    tokens_per_s: float

    @property
    def note(self) -> str:
        """For a progress bar."""
        return f"loss {self.loss:.3f} {self.tokens_per_s:,.0f} tokens/s"


Progress = Callable[[Point], None]
LossOf = Callable[[Batch], Tensor]


Body = Callable[[Tensor], Tensor]


def body_of(model: Gemma2ForCausalLM, compiled: bool) -> Body:
    """Ids [B, L] -> last hidden states [B, L, E]. Rows are padded on the right: causality keeps padding out, no mask.

    Compiled, a step takes 0.7 of the eager time on two Zen 4 cores (13.5 against 9.6 thousand tokens/s, 2026-11-24):
    at hidden 256 the elementwise operations that inductor fuses outweigh the matrix products. The first use takes a
    minute.
    """
    layers = torch.compile(model.model, dynamic=True) if compiled else model.model

    def states(ids: Tensor) -> Tensor:
        hidden: Tensor = layers(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    return states


def capped_logits(model: Gemma2ForCausalLM, hidden: Tensor) -> Tensor:
    """fp32 logits [N, V] of hidden states [N, E], with the final soft cap."""
    cap = model.config.final_logit_softcapping
    logits: Tensor = model.lm_head(hidden).float()
    return cap * torch.tanh(logits / cap)


class RunState:
    """What a run needs to go on: weights and moments as safetensors, step and curve as JSON. Never a pickle."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, curve: list[Point], wall_s: float
    ) -> None:
        """Replaces the saved state; a run without a folder keeps none."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            tensors[f"weight/{name}"] = parameter.detach().contiguous()
            for key, value in optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = torch.as_tensor(value).contiguous()
        name = f"state-{step}.safetensors"
        save_file(tensors, self._folder / name)
        record = {"step": step, "tensors": name, "wall_s": wall_s, "curve": [asdict(point) for point in curve]}
        waiting = self._folder / "run.json.new"
        waiting.write_text(json.dumps(record, indent=1))
        os.replace(waiting, self._folder / "run.json")  # the old state stays valid until this line
        for old in self._folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Point], float]:
        """(steps done, curve, seconds spent); zeros when nothing was saved."""
        if self._folder is None or not (self._folder / "run.json").exists():
            return 0, [], 0.0
        record = json.loads((self._folder / "run.json").read_text())
        tensors = load_file(self._folder / record["tensors"])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"weight/{name}"])
                optimizer.state[parameter] = {
                    key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        return record["step"], [Point(**point) for point in record["curve"]], record["wall_s"]


def optimise(
    model: Gemma2ForCausalLM,
    batches: Iterator[Batch],
    loss_of: LossOf,
    schedule: Schedule,
    state: RunState,
    resume: bool = False,
    progress: Progress | None = None,
    read_every: int = 50,
) -> tuple[list[Point], float]:
    """Trains the model in place; returns the loss curve and the seconds spent, earlier sessions included."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True
    )
    done, curve, earlier_s = state.load(model, optimizer) if resume else (0, [], 0.0)
    for _ in range(done if done < schedule.steps else 0):
        next(batches)  # the stream is a function of the seed: skipping is what makes a resumed run the same run
    fast_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # emulated elsewhere, which is slower than fp32
    started, since, tokens, losses = time.monotonic(), time.monotonic(), 0, []
    for step in range(done, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16):
            loss = loss_of(batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += batch.ids.numel()
        if (step + 1) % read_every == 0 or step + 1 == schedule.steps:
            now = time.monotonic()
            curve.append(Point(step + 1, schedule.steps, sum(losses) / len(losses), tokens / (now - since)))
            since, tokens, losses = now, 0, []
            if progress is not None:
                progress(curve[-1])
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
            state.save(model, optimizer, step + 1, curve, earlier_s + time.monotonic() - started)
    return curve, earlier_s + time.monotonic() - started
