"""The channel over real sockets and between real processes: whole messages, and the end of either side."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import model.channel as channel
from model.channel import Follower, GroupLostError, Leader
from model.world import World

NOTICED_S = 5.0  # model.executor's limit
FOLLOWER = """
import sys
from model.channel import Follower
from model.world import World
follower = Follower(World(int(sys.argv[1]), int(sys.argv[2]), "127.0.0.1", int(sys.argv[3])))
if sys.argv[4] == "busy":  # as in a collective that does not end
    follower.gone.wait()
while (message := follower.receive()) is not None:
    pass
"""


def a_world(size: int = 2) -> World:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return World(0, size, "127.0.0.1", probe.getsockname()[1])


def a_rank(world: World, rank: int) -> World:
    return World(rank, world.size, world.master_address, world.master_port)


@contextmanager
def a_pair() -> Iterator[tuple[Leader, Follower]]:
    world = a_world()
    leader = Leader(world)
    follower = Follower(a_rank(world, 1))
    leader.accept()
    yield leader, follower
    leader.close()
    follower.close()


@contextmanager
def followed(size: int = 2, how: str = "idle") -> Iterator[tuple[Leader, list[subprocess.Popen[bytes]]]]:
    """A leader here, its followers in processes of their own."""
    world = a_world(size)
    leader = Leader(world)
    command = [sys.executable, "-c", FOLLOWER]
    ranks = [subprocess.Popen([*command, str(rank), str(size), str(world.master_port), how]) for rank in range(1, size)]
    try:
        leader.accept(20.0)
        yield leader, ranks
    finally:
        leader.close()
        for rank in ranks:
            rank.kill()
            rank.wait()


def seconds_until_silent(leader: Leader, limit_s: float) -> float:
    began_s = time.monotonic()
    while leader.silence_s() < NOTICED_S:
        assert time.monotonic() - began_s < limit_s
        time.sleep(0.01)
    return time.monotonic() - began_s


def test_messages_arrive_whole_and_in_order() -> None:
    """Empty ones, ones of a few bytes, and ones that no buffer holds."""
    sizes = [0, 1, 7, 16_384, 3, 9_000_000, 0, 65_536]
    messages = [bytes([index]) * size for index, size in enumerate(sizes)]
    got: list[bytearray | None] = []
    with a_pair() as (leader, follower):
        reader = threading.Thread(target=lambda: got.extend(follower.receive() for _ in messages))
        reader.start()
        for message in messages:
            leader.send(message)
        reader.join(10)
    assert got == messages


def test_every_follower_is_told_and_known_by_its_rank() -> None:
    world = a_world(4)
    leader = Leader(world)
    followers = {rank: Follower(a_rank(world, rank)) for rank in (3, 1, 2)}
    leader.accept()
    leader.send(b"step")
    assert [follower.receive() for follower in followers.values()] == [b"step"] * 3
    followers[2].close()
    assert leader.silence_s() == float("inf")
    with pytest.raises(GroupLostError):
        leader.send(b"step")
    leader.close()


def test_strangers_are_let_go_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent ones, talkative ones, a rank that is not awaited, one that comes twice: none takes a follower's place."""
    monkeypatch.setattr(channel, "_GREETING_TIMEOUT_S", 0.05)
    world = a_world()
    leader = Leader(world)
    strangers = []
    for words in (b"", b"x", b"GET / HTTP/1.1\r\n\r\n", struct.pack("<8si", b"gemmule\1", 2)):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(channel._address(world))
        stranger.sendall(words)
        strangers.append(stranger)
    follower = Follower(a_rank(world, 1))
    leader.accept(10.0)
    leader.send(b"step")
    assert follower.receive() == b"step"
    for stranger in strangers:
        stranger.settimeout(1)
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
        stranger.close()
    with pytest.raises(ConnectionRefusedError):  # the group is complete, nobody listens any more
        Follower(a_rank(world, 1))
    assert leader.silence_s() < 1
    leader.close()
    follower.close()


def test_another_users_process_is_on_neither_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world()
    leader = Leader(world)
    monkeypatch.setattr(channel, "_user_of", lambda _: os.getuid() + 1)
    with pytest.raises(GroupLostError, match="another user"):
        Follower(a_rank(world, 1))
    with pytest.raises(GroupLostError, match=r"ranks \[1\] did not come within 0 s"):
        leader.accept(0.2)
    leader.close()


def test_a_group_of_its_own_port() -> None:
    worlds = a_world(), a_world()
    leaders = [Leader(world) for world in worlds]
    followers = [Follower(a_rank(world, 1)) for world in worlds]
    with pytest.raises(OSError, match="in use"):
        Leader(worlds[0])
    for index, leader in enumerate(leaders):
        leader.accept()
        leader.send(str(index).encode())
    assert [follower.receive() for follower in followers] == [b"0", b"1"]
    for side in (*leaders, *followers):
        side.close()


def test_signs_of_life_wait_for_a_leader_that_was_stopped_itself() -> None:
    now_s = [0.0]
    world = a_world()
    leader = Leader(world, clock=lambda: now_s[0])
    follower = Follower(a_rank(world, 1))
    leader.accept()
    time.sleep(0.6)
    now_s[0] = 60.0
    assert leader.silence_s() == 0
    now_s[0] = 64.0
    assert leader.silence_s() == 4
    leader.close()
    follower.close()


def test_a_killed_follower_is_noticed_at_once() -> None:
    with followed(3) as (leader, ranks):
        assert leader.silence_s() < 1
        ranks[1].kill()
        assert seconds_until_silent(leader, 2) < 0.5
        assert leader.silence_s() == float("inf")


def test_a_stopped_follower_is_noticed_and_a_slow_one_is_not_taken_for_dead() -> None:
    """Slow: a tenth of its time for 6 s. Both at once, one a group."""
    with followed() as (steady, (slow,)), followed() as (leader, (stopped,)):
        stopped.send_signal(signal.SIGSTOP)
        began_s, noticed_s, worst_s = time.monotonic(), 0.0, 0.0
        while time.monotonic() - began_s < 6.5:
            slow.send_signal(signal.SIGSTOP)
            time.sleep(0.45)
            slow.send_signal(signal.SIGCONT)
            time.sleep(0.05)
            worst_s = max(worst_s, steady.silence_s())
            if not noticed_s and leader.silence_s() >= NOTICED_S:
                noticed_s = time.monotonic() - began_s
        assert worst_s < NOTICED_S / 2
        assert 4 < noticed_s < NOTICED_S + 1


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_the_leaders_end_is_the_followers(how: str) -> None:
    """Whether it waits for a message or is stuck in a collective."""
    with followed(3, how) as (leader, ranks):
        leader.close()
        assert [rank.wait(2) for rank in ranks] == [0, 0]


def test_a_killed_leader_is_noticed_too() -> None:
    world = a_world()
    script = f"""
import time
from model.channel import Leader
from model.world import World
leader = Leader({world!r})
print(flush=True)
leader.accept()
print(flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    follower = Follower(a_rank(world, 1))
    process.stdout.readline()
    process.kill()
    process.wait()
    assert follower.receive() is None
    assert follower.gone.wait(1)
    follower.close()
    process.stdout.close()
