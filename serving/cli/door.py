"""How `gemmule apply` reaches a running `gemmule serve`: a socket of the same user on this machine, JSON by line."""

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("gemmule.door")

Line = Mapping[str, Any]
Tell = Callable[[Line], None]

_LONGEST_BYTES: Final = 8 * 2**20
_READ_S: Final = 10.0


class DoorError(Exception):
    """Nobody is there; the message says what to do."""


def path_of(http_port: int) -> Path:
    """Where the one that listens on this REST port is reached; the port tells several on a machine apart."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(folder) / f"gemmule-{os.getuid()}-{http_port}.sock"


@contextmanager
def door(http_port: int) -> Iterator[socket.socket]:
    """The listening end, for this user alone, and gone afterwards."""
    path = path_of(http_port)
    path.unlink(missing_ok=True)  # the port is ours, so whoever left it is gone
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    try:
        listening.listen(1)
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)


def answer_one(listening: socket.socket, handle: Callable[[Line, Tell], None]) -> None:
    """Wait for a caller, and answer it; one that leaves before the end is answered to nobody."""
    caller, _ = listening.accept()
    with caller:

        def tell(line: Line) -> None:
            with suppress(OSError):
                caller.sendall(json.dumps(line).encode() + b"\n")

        try:
            caller.settimeout(_READ_S)
            asked = json.loads(caller.makefile("rb").readline(_LONGEST_BYTES))
        except (OSError, ValueError):
            return
        try:
            handle(asked, tell)
        except Exception as error:  # what serves must outlive whatever one caller asks for
            log.exception("could not do what was asked")
            tell({"error": f"{type(error).__name__}: {error}"})


def ask(http_port: int, asked: Line) -> Iterator[Line]:
    """Lines of the answer as they come; raises `DoorError`."""
    path = path_of(http_port)
    calling = socket.socket(socket.AF_UNIX)
    with calling:
        try:
            if path.stat().st_uid != os.getuid():
                raise DoorError(f"{path} belongs to somebody else")
            calling.connect(str(path))
        except OSError as error:
            raise DoorError(
                f"no `gemmule serve` of yours listens on port {http_port} of this machine; name its port with --port"
            ) from error
        calling.sendall(json.dumps(asked).encode() + b"\n")
        for line in calling.makefile("rb"):
            yield json.loads(line)
