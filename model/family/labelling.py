"""Prompts without answers, answered by the teacher: data that a student without a teacher does not have.

The Gemma 2 report (2024, section 3) gives this as the reason to distil: it stands in for training beyond the tokens
that there are.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer
from transformers import Gemma2ForCausalLM

from model.family.answers import answer_chats
from model.family.corpus import counted_chats
from model.family.tasks.task import Message

_CHUNK_CHATS: Final = 1024  # answered and written together; what an interrupted run loses at most


def label_prompts(
    teacher: Gemma2ForCausalLM,
    tokenizer: Tokenizer,
    prompts: str,
    out: Path,
    max_tokens: int,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `out`, a JSONL of the source's chats with every answer made by the teacher, greedily.

    Answers that the source holds are dropped first. `progress` hears (chats done, chats in all). With `resume`, chats
    that `out` already holds are kept. Raises ValueError when the source has no end, or asks nothing.
    """
    if prompts.startswith("tasks:") and prompts.count(":") == 1:
        raise ValueError(f"prompts: {prompts} has no end; write {prompts}:COUNT")
    questions = [_questions(chat) for chat in counted_chats(prompts)]
    out.parent.mkdir(parents=True, exist_ok=True)
    done = _whole_lines(out) if resume else 0
    with out.open("a" if done else "w", encoding="utf-8") as file:
        for start in range(done, len(questions), _CHUNK_CHATS):
            chunk = questions[start : start + _CHUNK_CHATS]
            for chat in _converse(teacher, tokenizer, chunk, max_tokens):
                file.write(json.dumps({"messages": chat}, ensure_ascii=False) + "\n")
            file.flush()
            if progress is not None:
                progress(start + len(chunk), len(questions))


def _questions(chat: Sequence[Message]) -> list[Message]:
    asked = [message for message in chat if message["role"] == "user"]
    if not asked:
        raise ValueError("prompts: a chat without a message of role user; remove it")
    return asked


def _converse(
    teacher: Gemma2ForCausalLM, tokenizer: Tokenizer, questions: Sequence[Sequence[Message]], max_tokens: int
) -> list[list[Message]]:
    """Turn by turn: each question is answered with the teacher's own earlier answers before it."""
    chats: list[list[Message]] = [[] for _ in questions]
    for turn in range(max(map(len, questions))):
        waiting = [index for index, asked in enumerate(questions) if turn < len(asked)]
        for index in waiting:
            chats[index].append(questions[index][turn])
        answers = answer_chats(teacher, tokenizer, [chats[index] for index in waiting], max_tokens)
        for index, answer in zip(waiting, answers, strict=True):
            chats[index].append({"role": "assistant", "content": answer})
    return chats


def _whole_lines(path: Path) -> int:
    """Lines that were written whole; half a line, which a killed run may leave, is cut off."""
    if not path.exists():
        return 0
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    return whole.count(b"\n")
