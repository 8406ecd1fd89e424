"""`gemmule chat`: talk to a running gemmule in a terminal."""

import contextlib
import readline
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console

from serving.cli.explain import show
from serving.cli.remote import Remote, RemoteError

HELP: Final = """\
/size 2b|9b|27b   ask this size          /tier auto|economy|balanced|premium   buy this tier
/why              why that size answered, and what the others would cost and take
/clear            forget the conversation                                      /bye   leave
Several lines: start and end with \"\"\". Ctrl-C stops an answer, Ctrl-D leaves."""


@dataclass(slots=True)
class Conversation:
    """What was said, to whom the next question goes, and why the last answer came from where it did."""

    model: str = "auto"
    messages: list[dict[str, str]] = field(default_factory=list)
    why: str = "nothing was asked yet"
    asked: dict[str, Any] = field(default_factory=dict)  # the last request


def chat(url: str, model: str, console: Console) -> int:
    """Read, answer, repeat; the exit status."""
    remote = Remote(url)
    try:
        known = [entry["id"] for entry in remote.get("/v1/models")["data"]]
    except RemoteError as error:
        console.print(f"[red]✗[/] {error}")
        return 1
    readline.parse_and_bind("tab: complete")
    talk = Conversation(model=model)
    console.print(f"talking to [bold]{talk.model}[/] at {remote.url}; /help shows the commands", highlight=False)
    while True:
        try:
            line = _read(talk.model)
        except EOFError:
            console.print()
            return 0
        except KeyboardInterrupt:
            console.print()
            continue
        if not line.strip():
            continue
        if line.startswith("/"):
            if _command(line, remote, talk, known, console):
                return 0
            continue
        _ask(remote, talk, line, console)


def _read(model: str) -> str:
    line = input(f"{model}> ")
    if not line.startswith('"""'):
        return line
    lines = [line.removeprefix('"""')]
    while not lines[-1].endswith('"""') or len(lines) == 1:
        lines.append(input("... "))
    lines[-1] = lines[-1].removesuffix('"""')
    return "\n".join(lines).strip("\n")


def _command(line: str, remote: Remote, talk: Conversation, known: list[str], console: Console) -> bool:
    """Obey a slash command; True when it is time to leave."""
    word, _, argument = line.strip().partition(" ")
    match word:
        case "/bye" | "/exit" | "/quit":
            return True
        case "/size" | "/tier" if argument in known:
            talk.model = argument
        case "/size" | "/tier":
            console.print(f"{word} takes one of {', '.join(known)}", highlight=False)
        case "/why":
            console.print(talk.why, highlight=False)
            _quote(remote, talk, console)
        case "/clear":
            talk.messages.clear()
            console.print("forgotten")
        case _:
            console.print(HELP, highlight=False, markup=False)
    return False


def _quote(remote: Remote, talk: Conversation, console: Console) -> None:
    """What the last question would cost and take now."""
    if talk.asked:
        try:
            show(remote.post("/v1/quote", talk.asked), console)
        except RemoteError as error:
            console.print(f"[red]✗[/] {error}")


def _ask(remote: Remote, talk: Conversation, text: str, console: Console) -> None:
    """One question, its answer as it comes; an interrupted or failed one is not kept."""
    messages = [*talk.messages, {"role": "user", "content": text}]
    answer: list[str] = []
    talk.asked = {"model": talk.model, "messages": messages, "temperature": 0}
    stream = remote.stream("/v1/chat/completions", talk.asked)
    try:
        with contextlib.closing(stream):
            for chunk in stream:
                _note(talk, chunk)
                for choice in chunk["choices"]:
                    piece = choice["delta"].get("content") or ""
                    answer.append(piece)
                    console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(" [dim](stopped)[/]")
        return
    except RemoteError as error:
        console.print(f"[red]✗[/] {error}")
        return
    console.print()
    talk.messages = [*messages, {"role": "assistant", "content": "".join(answer)}]


def _note(talk: Conversation, chunk: dict[str, Any]) -> None:
    route = chunk.get("gemmule")
    if route:
        talk.why = f"{route['size']} ({route['checkpoint']}, {route['replica']}): {route['detail']}"
