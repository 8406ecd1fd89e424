"""How rank 0 tells the others what a step computes: a Unix socket each, on one host, with a pulse the other way.

Measured at degree 2 on two Zen 3 cores, 16 kB a step (32 sequences): see docs/decisions/0002. A socket also says at
once when the other side has died, which shared memory does not; a stopped process (SIGSTOP) is told by its pulse.
"""

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from model.world import World

_LENGTH: Final = struct.Struct("<q")
_GREETING: Final = struct.Struct("<8si")  # who we are, and which rank
_US: Final = b"gemmule\1"
_BUFFER_BYTES: Final = 4 << 20
_JOIN_TIMEOUT_S: Final = 120.0
_GREETING_TIMEOUT_S: Final = 1.0
_PULSE_S: Final = 0.5


class GroupLostError(Exception):
    """A rank has died, or has given no sign of life for too long."""


class Leader:
    """Rank 0's side. Made before the ranks meet, so that followers find it."""

    def __init__(self, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(_address(world))
        self._listener.listen()
        self._size = world.size
        self._followers: dict[int, socket.socket] = {}  # by rank
        self._heard_s: dict[int, float] = {}  # when a follower last gave a sign
        self._asking = threading.Lock()
        self._lost = False

    def accept(self, timeout_s: float = _JOIN_TIMEOUT_S) -> None:
        """Wait until every follower is there, and let nobody else in; raises `GroupLostError`."""
        until_s = self._clock() + timeout_s
        while missing := set(range(1, self._size)) - self._followers.keys():
            self._listener.settimeout(max(0.001, until_s - self._clock()))
            try:
                peer, _ = self._listener.accept()
            except TimeoutError as error:
                raise GroupLostError(f"ranks {sorted(missing)} did not come within {timeout_s:.0f} s") from error
            rank = _greeted(peer)
            if rank not in missing:
                peer.close()
                continue
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            self._followers[rank], self._heard_s[rank] = peer, self._clock()
        self._listener.close()

    def send(self, message: bytes) -> None:
        """To every follower; raises `GroupLostError`."""
        framed = _LENGTH.pack(len(message)) + message
        try:
            for follower in self._followers.values():
                follower.sendall(framed)
        except OSError as error:
            self._lost = True
            raise GroupLostError(str(error)) from error

    def silence_s(self) -> float:
        """How long the quietest follower has been quiet; infinite when one is gone. Any thread may ask.

        Signs wait in the socket until somebody asks, so a leader that was itself stopped takes nobody for dead.
        """
        with self._asking:
            for rank, follower in self._followers.items():
                if self._signs(follower):
                    self._heard_s[rank] = self._clock()
            now_s = self._clock()
            return float("inf") if self._lost else now_s - min(self._heard_s.values(), default=now_s)

    def close(self) -> None:
        """Followers then end by themselves."""
        self._listener.close()
        for follower in self._followers.values():
            with suppress(OSError):
                follower.shutdown(socket.SHUT_RDWR)
            follower.close()

    def _signs(self, follower: socket.socket) -> bool:
        """Whether it gave any since the last time; notes its end."""
        heard = False
        try:
            while follower.recv(4096, socket.MSG_DONTWAIT):
                heard = True
        except BlockingIOError:
            return heard
        except OSError:
            pass
        self._lost = True
        return heard


class Follower:
    """The side of a rank above 0; `gone` is set once rank 0 is, whatever this rank is doing."""

    def __init__(self, world: World) -> None:
        self.gone = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.connect(_address(world))
        if _user_of(self._socket) != os.getuid():
            self._socket.close()
            raise GroupLostError("another user listens in rank 0's place")
        self._socket.sendall(_GREETING.pack(_US, world.rank))
        threading.Thread(target=self._pulse, daemon=True, name="pulse").start()

    def receive(self) -> bytearray | None:
        """The next message; None when rank 0 is gone."""
        head = _exactly(self._socket, _LENGTH.size)
        return None if head is None else _exactly(self._socket, _LENGTH.unpack(head)[0])

    def close(self) -> None:
        """Rank 0 hears of it at once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _pulse(self) -> None:
        hung_up = select.poll()
        with suppress(OSError, ValueError):
            hung_up.register(self._socket, 0)  # nothing but the other side's end
            while not hung_up.poll(_PULSE_S * 1000):
                with suppress(BlockingIOError):  # nobody has asked for long: there are signs enough
                    self._socket.send(b".", socket.MSG_DONTWAIT)
        self.gone.set()


def _greeted(peer: socket.socket) -> int | None:
    """The rank at the other end, or None for anybody else: another user, or a process that lost its way."""
    if _user_of(peer) != os.getuid():
        return None
    peer.settimeout(_GREETING_TIMEOUT_S)
    greeting = _exactly(peer, _GREETING.size)
    peer.settimeout(None)
    who, rank = _GREETING.unpack(greeting) if greeting else (b"", -1)
    return rank if who == _US else None


def _exactly(source: socket.socket, size: int) -> bytearray | None:
    """So many bytes, or None when the other side ends before."""
    whole = bytearray(size)  # arrays over it are writable, as torch wants them
    rest = memoryview(whole)
    with suppress(OSError):
        while rest and (got := source.recv_into(rest)):
            rest = rest[got:]
    return None if rest else whole


def _address(world: World) -> str:
    """An abstract name: it leaves no file behind, and the rendezvous port is this group's own."""
    return f"\0gemmule-{os.getuid()}-{world.master_port}"


def _user_of(peer: socket.socket) -> int:
    """The user at the other end; abstract names have no permissions."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)
