"""Every code has a row; what happened inside stays inside."""

from pathlib import Path

import pytest

from model.errors import Code, Fault, InvalidRequestError, OverloadedError
from serving.status import STATUS, error_body, error_headers, public, retry_after, status_of

NOTES = {  # reliability contract: code -> HTTP status
    Code.INVALID_REQUEST: 400,
    Code.MODEL_NOT_FOUND: 404,
    Code.OVERLOADED: 429,
    Code.NOT_READY: 503,
    Code.REPLICA_LOST: 503,
    Code.DEADLINE_EXCEEDED: 504,
    Code.INTERNAL: 500,
}


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_row(code: Code) -> None:
    assert STATUS[code].http == NOTES.get(code, STATUS[code].http)


@pytest.mark.parametrize("code", Code)
def test_every_row_is_in_the_documentation(code: Code) -> None:
    page = (Path(__file__).parents[3] / "docs/api.md").read_text()
    row = STATUS[code]
    assert any(f"| {row.http} | `{row.type}` | {row.grpc.name} |" in line for line in page.splitlines())


@pytest.mark.parametrize(("asked_s", "told"), [(0.2, 1), (7.2, 8), (500, 60), (None, 1)])
def test_retry_after_is_one_to_sixty_whole_seconds(asked_s: float | None, told: int) -> None:
    fault = Fault(Code.OVERLOADED, "full", "overloaded", None, asked_s)
    assert retry_after(fault) == told
    assert error_headers(fault) == {"retry-after": str(told)}


def test_waiting_does_not_mend_a_wrong_request() -> None:
    fault = InvalidRequestError("invalid_type", "stop", "stop: wrong").fault
    assert retry_after(fault) is None
    assert error_headers(fault) == {}


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.CHECKPOINT])
def test_what_happened_inside_stays_inside(code: Code) -> None:
    shown = public(Fault(code, "0x7f at /secret", "whatever"), "req-1")
    assert "secret" not in shown.message
    assert "req-1" in shown.message
    assert shown.reason == "internal_error"


def test_the_body_is_openais() -> None:
    body = error_body(OverloadedError("full", 2).fault, "req-1")
    assert body == {"error": {"message": "full", "type": "rate_limit_error", "param": None, "code": "overloaded"}}
    assert status_of(OverloadedError("full", 2).fault).retry
