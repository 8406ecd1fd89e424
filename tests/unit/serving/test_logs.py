"""One object a line, whatever is logged."""

import json
import logging
import sys

from serving.logs import MAX_LINE, JsonLines


def a_record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "gemmule.request", "levelname": "INFO", "msg": message})
    vars(record).update(fields)
    return record


def test_facts_are_fields_and_nobody_forges_a_line() -> None:
    text = JsonLines().format(a_record("request ended", request_id="a\n{}", total_s=0.5))
    line = json.loads(text)
    assert "\n" not in text
    assert (line["event"], line["request_id"], line["total_s"]) == ("request ended", "a\n{}", 0.5)
    assert line["logger"] == "gemmule.request"


def test_a_traceback_is_one_field_of_a_bounded_line() -> None:
    try:
        raise ValueError("x" * 2 * MAX_LINE)
    except ValueError:
        text = JsonLines().format(a_record("unexpected", exc_info=sys.exc_info()))
    assert len(text) <= MAX_LINE
    assert json.loads(text)["event"] == "unexpected"
