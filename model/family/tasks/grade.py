"""Reads the value out of an answer and compares it strictly."""

import json
import re
from typing import assert_never

from model.family.tasks.task import Extract, Task

NUMBER = re.compile(r"-?\d+")


def _last(found: list[str]) -> str | None:
    return found[-1] if found else None


def _canonical_json(text: str) -> str | None:
    found = re.search(r"\{.*\}", text, re.DOTALL)
    if found is None:
        return None
    try:
        return json.dumps(json.loads(found.group()), sort_keys=True)
    except ValueError:
        return None


def extract_value(extract: Extract, answer: str) -> str | None:
    """The value an answer gives, or None if it gives none of this form."""
    match extract:
        case Extract.LAST_NUMBER:
            return _last(NUMBER.findall(answer))
        case Extract.FIRST_NUMBER:
            return next(iter(NUMBER.findall(answer)), None)
        case Extract.NUMBERS:
            return ",".join(NUMBER.findall(answer)) or None
        case Extract.QUOTED:
            return _last(re.findall(r'"([^"]*)"', answer))
        case Extract.SPELLED:
            return _last(re.findall(r"\b\w(?:-\w)+\b", answer))
        case Extract.LAST_NAME:
            return _last(re.findall(r"\b[A-Z][a-z]+\b", answer))
        case Extract.JSON:
            return _canonical_json(answer)
        case Extract.TEXT:
            return answer.strip()
    assert_never(extract)


def grade(task: Task, answer: str) -> bool:
    """Whether the answer gives exactly the expected value."""
    expect = _canonical_json(task.expect) if task.extract is Extract.JSON else task.expect
    return extract_value(task.extract, answer) == expect
