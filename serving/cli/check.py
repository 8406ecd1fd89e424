"""`gemmule check`: does a running gemmule answer on both faces? What `helm test` runs in the cluster."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console

from serving.cli.remote import Remote, RemoteError
from serving.rpc.calls import GrpcRemote

_ASKED = "What is 12 + 30?"
_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Answered:
    """One thing that was asked of the service."""

    name: str
    ok: bool
    detail: str


def check(url: str | None, grpc: str | None, model: str, as_json: bool, console: Console) -> int:
    """Ready, and one short chat, on each face that has an address; 1 when something is missing."""
    found = [*(_rest(url, model) if url else ()), *(_grpc(grpc, model) if grpc else ())]
    if as_json:
        console.print_json(json.dumps([asdict(answered) for answered in found]))
    else:
        for answered in found:
            mark = "[green]✓[/]" if answered.ok else "[red]✗[/]"
            console.print(f"{mark} {answered.name}: {answered.detail}", highlight=False)
    return int(not all(answered.ok for answered in found))


def _rest(url: str, model: str) -> list[Answered]:
    remote = Remote(url)

    def ready() -> str:
        sizes = remote.get("/readyz")["sizes"]
        return ", ".join(f"{size} {'up' if up else 'down'}" for size, up in sizes.items())

    def chat() -> str:
        turns = [{"role": "user", "content": _ASKED}]
        body = {"model": model, "messages": turns, "max_tokens": _MAX_TOKENS, "temperature": 0}
        answer = remote.post("/v1/chat/completions", body)
        return _said(answer["gemmule"]["size"], answer["choices"][0]["message"]["content"])

    return [_answered("REST ready", ready), _answered("REST chat", chat)]


def _grpc(address: str, model: str) -> list[Answered]:
    remote = GrpcRemote(address)

    def health() -> str:
        if (status := remote.health()) != "SERVING":
            raise RemoteError(status)
        return status

    try:
        return [
            _answered("gRPC health", health),
            _answered("gRPC chat", lambda: _said(*remote.chat(model, _ASKED, _MAX_TOKENS))),
        ]
    finally:
        remote.close()


def _answered(name: str, ask: Callable[[], str]) -> Answered:
    try:
        return Answered(name, True, ask())
    except RemoteError as error:
        return Answered(name, False, str(error))


def _said(size: str, text: str) -> str:
    if not text:
        raise RemoteError(f"{size} answered without a word")
    return f"{size} answered in {len(text)} characters"
