"""Graded tasks with the greedy answers of all three stand-ins, each scored by the largest: what agreement.py measures.

usage: python benchmarks/scored_answers.py OUT.jsonl [--tasks 3000] [--seed 11] [--threads 1]
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model.config import END_OF_TURN_ID, EngineConfig, Size
from model.engine import Engine
from model.events import Failed, Finished, FinishReason, Logprob, PromptScored, TokenEvent
from model.family.tasks.generator import evaluation_tasks
from model.family.tasks.grade import grade
from model.prompt import Prompter, Role, Turn
from model.request import GenerationRequest, RequestId, SamplingParams
from model.source import EMBEDDED_FOLDER

AT_ONCE = 48
MAX_TOKENS = 96
GREEDY = SamplingParams(MAX_TOKENS, temperature=0.0)
SCORE = SamplingParams(1, temperature=0.0, prompt_logprobs=1)


@dataclass
class Answer:
    """One size's answer: its tokens, the end of the turn among them, and what the largest size makes of each."""

    right: bool
    tokens: list[int]
    logprobs: list[float]  # of the token, under the largest size
    best: list[float]  # of the likeliest token at its place
    nearest: list[int]  # the likeliest token


@dataclass
class Row:
    """One task; `answers` by size."""

    kind: str
    level: int
    text: str
    turns: int
    prompt_tokens: int
    answers: dict[str, Answer]


async def submit(engine: Engine, number: int, ids: Sequence[int], sampling: SamplingParams) -> list[Any]:
    request = GenerationRequest(RequestId(f"r{number}"), tuple(ids), sampling, 3600.0)
    async with aclosing(engine.submit(request)) as events:
        found = [event async for event in events]
    assert not isinstance(found[-1], Failed), found[-1]
    return found


async def all_of(engine: Engine, prompts: Sequence[Sequence[int]], sampling: SamplingParams) -> list[list[Any]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, ids: Sequence[int]) -> list[Any]:
        async with gate:
            return await submit(engine, number, ids, sampling)

    return await asyncio.gather(*(one(number, ids) for number, ids in enumerate(prompts)))


def tokens_of(events: list[Any]) -> list[int]:
    """The answer's tokens, and the end of the turn where the model ended it."""
    ids = [token for event in events if isinstance(event, TokenEvent) for token in event.token_ids]
    last = events[-1]
    assert isinstance(last, Finished)
    ended = last.reason is FinishReason.STOP and (not ids or ids[-1] != END_OF_TURN_ID)
    return [*ids, END_OF_TURN_ID] if ended else ids


def scores_of(events: list[Any], count: int) -> list[Logprob]:
    return [each for event in events if isinstance(event, PromptScored) for each in event.logprobs][-count:]


async def collect(num_tasks: int, seed: int, threads: int) -> list[Row]:
    prompter = Prompter(EMBEDDED_FOLDER / "nano-27b/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(EMBEDDED_FOLDER / "nano-27b/tokenizer.json"))
    tasks = evaluation_tasks(num_tasks, seed)
    prompts = [
        prompter.chat([Turn(Role(message["role"]), message["content"]) for message in task.messages]) for task in tasks
    ]
    config = EngineConfig(max_running=AT_ONCE, max_waiting=AT_ONCE, kv_tokens=32_768)
    answers: dict[Size, list[list[int]]] = {}
    scores: dict[Size, list[list[Logprob]]] = {}
    for size in Size:
        engine = Engine(EMBEDDED_FOLDER / f"nano-{size}", config, threads=threads)
        await engine.start()
        answers[size] = [tokens_of(events) for events in await all_of(engine, prompts, GREEDY)]
        print(f"{size} answered", flush=True)
        if size is Size.B27:
            for each in Size:
                asked = [[*prompt, *answer] for prompt, answer in zip(prompts, answers[each], strict=True)]
                found = await all_of(engine, asked, SCORE)
                scores[each] = [scores_of(e, len(a)) for e, a in zip(found, answers[each], strict=True)]
                print(f"{each} scored", flush=True)
        await engine.close()
    rows = []
    for number, task in enumerate(tasks):
        made = {}
        for size in Size:
            ids, scored = answers[size][number], scores[size][number]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            made[str(size)] = Answer(
                grade(task, text), ids, [one.logprob for one in scored], [one.top[0][1] for one in scored],
                [one.top[0][0] for one in scored],
            )  # fmt: skip
        asked_by = [message["content"] for message in task.messages if message["role"] == "user"]
        rows.append(Row(str(task.kind), task.level, asked_by[-1], len(asked_by), len(prompts[number]), made))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    rows = asyncio.run(collect(given.tasks, given.seed, given.threads))
    given.out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
