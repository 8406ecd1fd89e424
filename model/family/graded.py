"""Graded answers of every family member, as a file that `gemmule routing calibrate` reads.

    python -m model.family.graded --out labels.csv

Tasks are unseen ones, and none of those that `gemmule evaluate` asks by default. Beside right or wrong and tokens, a
row says how sure each size was of its answer: mean and least log-probability of its tokens.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

import torch
from rich.progress import track
from tokenizers import Tokenizer
from transformers import Gemma2ForCausalLM

from model.config import Size
from model.family.answers import BATCH, LONGEST_ANSWER_TOKENS, generated
from model.family.checkpoint import load_model
from model.family.corpus import Encoder
from model.family.evaluate import evaluation_tasks
from model.family.tasks.grade import grade
from model.family.tasks.task import Message, Task
from model.family.vocabulary import END_OF_TURN, EOS

FAMILY: Final = {Size.B2: "nano-2b", Size.B9: "nano-9b", Size.B27: "nano-27b"}
_CHECKPOINTS: Final = Path(__file__).parent / "checkpoints"
_EVALUATED: Final = (990, 1)  # tasks and seed that `gemmule evaluate` and REPORT.md score


@dataclass(frozen=True, slots=True)
class Told:
    """A greedy answer and how sure the model was: natural logarithms of the probabilities of its tokens.

    The token that ends it counts as output and has no logarithm here: a client does not see it either.
    """

    text: str
    logprobs: tuple[float, ...]
    output_tokens: int

    @property
    def mean(self) -> float:
        """Over all tokens."""
        return sum(self.logprobs) / max(1, len(self.logprobs))

    @property
    def least(self) -> float:
        """Of all tokens."""
        return min(self.logprobs, default=0.0)


def tell(
    model: Gemma2ForCausalLM, tokenizer: Tokenizer, chats: Sequence[Sequence[Message]], words: str = "answering"
) -> list[Told]:
    """The greedy answer to each chat, in the order asked."""
    told: dict[int, Told] = {}
    batches = generated(model, tokenizer, chats, LONGEST_ANSWER_TOKENS, output_logits=True)
    for chosen, out, width in track(batches, words, total=ceil(len(chats) / BATCH)):
        made = out.sequences[:, width:]  # [B, new]
        sure = torch.stack(out.logits, 1).log_softmax(-1).gather(-1, made[..., None])[..., 0]  # [B, new]
        for row, index in enumerate(chosen):
            tokens = made[row].tolist()
            length = next((n + 1 for n, token in enumerate(tokens) if token in (EOS, END_OF_TURN)), len(tokens))
            kept = [token for token in tokens[:length] if token not in (EOS, END_OF_TURN)]
            text = tokenizer.decode(kept, skip_special_tokens=True)
            told[index] = Told(text, tuple(sure[row, : len(kept)].tolist()), length)
    return [told[index] for index in range(len(chats))]


def rows(tasks: Sequence[Task]) -> list[dict[str, str]]:
    """A row for each task: what each size answered, graded."""
    columns: dict[Size, list[Told]] = {}
    for size, name in FAMILY.items():
        folder = _CHECKPOINTS / name
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        columns[size] = tell(load_model(folder).eval(), tokenizer, [task.messages for task in tasks], name)
    encoder = Encoder(tokenizer)
    made = []
    for number, task in enumerate(tasks):
        asked = [message["content"] for message in task.messages if message["role"] == "user"]
        row = {"dataset": str(task.kind), "prompt": asked[-1], "turns": str(len(asked))}
        row["prompt_tokens"] = str(len(encoder.prompt(task.messages)))
        for size, told in columns.items():
            answer = told[number]
            row[f"correct_{size}"] = str(int(grade(task, answer.text)))
            row[f"out_tokens_{size}"] = str(answer.output_tokens)
            row[f"logprob_mean_{size}"] = f"{answer.mean:.5f}"
            row[f"logprob_min_{size}"] = f"{answer.least:.5f}"
        made.append(row)
    return made


def unseen(count: int, seed: int) -> list[Task]:
    """Tasks for fitting, none of them asked by `gemmule evaluate`, no chat twice."""
    taken = {task.messages[-1]["content"] for task in evaluation_tasks(*_EVALUATED)}
    kept: list[Task] = []
    for task in evaluation_tasks(2 * count, seed):
        if task.messages[-1]["content"] not in taken:
            taken.add(task.messages[-1]["content"])
            kept.append(task)
    return kept[:count]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=2027)
    args = parser.parse_args()
    made = rows(unseen(args.tasks, args.seed))
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, made[0].keys())
        writer.writeheader()
        writer.writerows(made)
    print(f"{len(made)} tasks written to {args.out}")


if __name__ == "__main__":
    main()
