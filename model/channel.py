"""How rank 0 tells the others what a step computes: a Unix socket each, on one host, with a pulse the other way.

Measured at degree 2 on two Zen 3 cores, 16 kB a step (32 sequences): see docs/decisions/0002. A socket also says at
once when the other side has died, which shared memory does not; a stopped process (SIGSTOP) is told by its pulse.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from model.world import World

_LENGTH: Final = struct.Struct("<q")
_BUFFER_BYTES: Final = 4 << 20
_JOIN_TIMEOUT_S: Final = 120.0
_PULSE_S: Final = 0.5


class GroupLostError(Exception):
    """A rank has died, or has given no sign of life for too long."""


class Leader:
    """Rank 0's side. Made after the ranks have met, so that followers find it."""

    def __init__(self, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(_address(world))
        self._listener.listen(world.size)
        self._world = world
        self._followers: list[socket.socket] = []
        self._heard_s: dict[int, float] = {}  # by position; when a follower last gave a sign
        self._lost = False

    def accept(self) -> None:
        """Wait until every follower is there."""
        self._listener.settimeout(_JOIN_TIMEOUT_S)
        while len(self._followers) < self._world.size - 1:
            follower, _ = self._listener.accept()
            if _user_of(follower) != os.getuid():
                follower.close()
                continue
            follower.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            self._heard_s[len(self._followers)] = self._clock()
            threading.Thread(target=self._listen, args=(len(self._followers), follower), daemon=True).start()
            self._followers.append(follower)
        self._listener.close()

    def send(self, message: bytes) -> None:
        """To every follower; raises `GroupLostError`."""
        framed = _LENGTH.pack(len(message)) + message
        try:
            for follower in self._followers:
                follower.sendall(framed)
        except OSError as error:
            self._lost = True
            raise GroupLostError(str(error)) from error

    def silence_s(self) -> float:
        """How long the quietest follower has been quiet; infinite when one is gone."""
        if self._lost:
            return float("inf")
        return self._clock() - min(self._heard_s.values(), default=self._clock())

    def close(self) -> None:
        """Followers then end by themselves."""
        for follower in self._followers:
            with suppress(OSError):
                follower.shutdown(socket.SHUT_RDWR)
            follower.close()

    def _listen(self, position: int, follower: socket.socket) -> None:
        with suppress(OSError):
            while follower.recv(64):
                self._heard_s[position] = self._clock()
        self._lost = True


class Follower:
    """The side of a rank above 0."""

    def __init__(self, world: World) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.connect(_address(world))
        threading.Thread(target=self._pulse, daemon=True, name="pulse").start()

    def receive(self) -> bytes | None:
        """The next message; None when rank 0 is gone."""
        head = self._exactly(_LENGTH.size)
        return None if head is None else self._exactly(_LENGTH.unpack(head)[0])

    def close(self) -> None:
        """Rank 0 hears of it at once."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes | None:
        parts, missing = [], size
        with suppress(OSError):
            while missing and (part := self._socket.recv(missing)):
                parts.append(part)
                missing -= len(part)
        return None if missing else b"".join(parts)

    def _pulse(self) -> None:
        with suppress(OSError):
            while True:
                self._socket.send(b".")
                time.sleep(_PULSE_S)


def _address(world: World) -> str:
    """An abstract name: it leaves no file behind, and the rendezvous port is this group's own."""
    return f"\0gemmule-{os.getuid()}-{world.master_port}"


def _user_of(peer: socket.socket) -> int:
    """The user at the other end; abstract names have no permissions."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)
