"""What several commands print alike."""

from typing import Any

from model.capacity import SHORT_TOKENS
from model.config import CONTEXT_TOKENS


def shown_name(checkpoint: str, stand_in: bool) -> str:
    """A checkpoint's name, which never hides that it is a stand-in."""
    return f"{checkpoint} (stand-in)" if stand_in else checkpoint


def share(part: float, whole: float) -> str:
    """In per cent; a dash where there is nothing to share."""
    return f"{part / whole:.1%}" if whole else "–"


def memory(num_bytes: float) -> str:
    """In GB as devices are sold, in MB where that would be nothing."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def fit_at_once(capacity: dict[str, Any] | None) -> str:
    """How many requests a replica's keys and values have room for."""
    if capacity is None:
        return "–"
    full, short = capacity["full_requests"], capacity["short_requests"]
    return f"{full:,} × {CONTEXT_TOKENS:,} or {short:,} × {SHORT_TOKENS:,} tokens"


def curl_line(url: str) -> str:
    """A line to paste that asks the service at this address."""
    body = '{"model": "auto", "messages": [{"role": "user", "content": "What is 12 + 30?"}]}'
    return f"curl -s {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
