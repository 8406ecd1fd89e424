"""What several commands print alike."""


def shown_name(checkpoint: str, stand_in: bool) -> str:
    """A checkpoint's name, which never hides that it is a stand-in."""
    return f"{checkpoint} (stand-in)" if stand_in else checkpoint


def curl_line(url: str) -> str:
    """A line to paste that asks the service at this address."""
    body = '{"model": "auto", "messages": [{"role": "user", "content": "What is 12 + 30?"}]}'
    return f"curl -s {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
