"""Talks to a running gemmule over REST, for the commands that look at one."""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 600.0
_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.5


class RemoteError(Exception):
    """The service cannot be reached or refused; the message says what to do."""


class Remote:
    """One address; every method raises `RemoteError` with a sentence a person can act on."""

    def __init__(self, url: str, limit: int = 64) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=limit),
            trust_env=False,
        )

    def get(self, path: str) -> dict[str, Any]:
        """JSON at a path."""
        with self._explained():
            return self._checked(self._client.get(path))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """JSON answer to a JSON body."""
        with self._explained():
            return self._checked(self._client.post(path, json=body))

    def post_patiently(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same, tried again for some seconds: honest refusals of a full cluster, or a replica just lost, heal."""
        for attempt in range(_ATTEMPTS - 1):
            try:
                return self.post(path, body)
            except RemoteError:
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
        return self.post(path, body)

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Chunks of an SSE answer; closing the iterator ends the request."""
        with self._explained(), self._client.stream("POST", path, json={**body, "stream": True}) as response:
            if response.status_code != 200:
                response.read()
                self._checked(response)
            for line in response.iter_lines():
                if not line.startswith("data: "):
                    continue
                payload = line.removeprefix("data: ")
                if payload == "[DONE]":
                    return
                chunk: dict[str, Any] = json.loads(payload)
                if "error" in chunk:
                    raise RemoteError(chunk["error"]["message"])
                yield chunk

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise RemoteError(
                f"nothing answers at {self.url}; start it with `gemmule serve` or give the address with --url"
            ) from error
        except httpx.HTTPError as error:
            raise RemoteError(f"{self.url}: {error or type(error).__name__}") from error

    @staticmethod
    def _checked(response: httpx.Response) -> dict[str, Any]:
        try:
            body: dict[str, Any] = response.json()
        except ValueError as error:
            raise RemoteError(f"status {response.status_code}, and the body is not JSON: is this gemmule?") from error
        if response.status_code != 200:
            raise RemoteError(body.get("error", {}).get("message", f"status {response.status_code}"))
        return body
