"""Log records -> lines of JSON on stderr, facts as fields."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

ROOT: Final = "gemmule"
MAX_LINE: Final = 16_384
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One object a line; values are encoded, so nobody can forge a line. Long lines lose their last field's end."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-MAX_LINE // 2 :]
        text = json.dumps(line, default=str)
        return text if len(text) <= MAX_LINE else json.dumps({**line, "exception": "", "cut": len(text)}, default=str)


def log_json() -> None:
    """Send records of gemmule's loggers to stderr; asked twice, does it once."""
    root = logging.getLogger(ROOT)
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
