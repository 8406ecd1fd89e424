"""Runs a batch on all ranks of a replica: here, and wherever the channel leads."""

import threading
from typing import Final

import torch

from model.batch import Batch
from model.channel import Follower, GroupLostError, Leader
from model.runner import Runner
from model.world import World

_SILENCE_S: Final = 5.0  # a rank that gives no sign for so long is stopped or gone; a slow one still gives them
_GRACE_S: Final = 2.0  # for a last step that rank 0 still takes part in


class Executor:
    """Rank 0's hand on the group. With one rank it is the runner and nothing else."""

    def __init__(self, runner: Runner, world: World) -> None:
        self._runner = runner
        self._leader = Leader(world) if world.sharded else None
        if world.sharded:
            torch.distributed.barrier()  # followers connect to a listener that is there
        if self._leader is not None:
            self._leader.accept()

    def run(self, batch: Batch) -> torch.Tensor:
        """Logits [R, V]; raises `GroupLostError` when a rank cannot be told."""
        if self._leader is not None:
            if not self.healthy():
                raise GroupLostError("a rank is gone")
            self._leader.send(batch.to_bytes())
        return self._runner.run(batch)

    def healthy(self) -> bool:
        """Every rank has given a sign of life lately."""
        return self._leader is None or self._leader.silence_s() < _SILENCE_S

    def close(self) -> None:
        """Followers end."""
        if self._leader is not None:
            self._leader.close()


class FollowerLoop:
    """The same steps on a rank above 0, in a thread of its own, until rank 0 is gone."""

    def __init__(self, runner: Runner, world: World) -> None:
        self._runner = runner
        torch.distributed.barrier()
        self._follower = Follower(world)
        self._thread = threading.Thread(target=self._follow, daemon=True, name="follower")
        self._threads = torch.get_num_threads()
        self._thread.start()

    def wait(self) -> None:
        """Until rank 0 is gone. A collective that it died in never ends, and is left where it is."""
        self._follower.gone.wait()
        self._thread.join(_GRACE_S)

    def _follow(self) -> None:
        torch.set_num_threads(self._threads)  # OpenMP's number belongs to a thread
        try:
            while (message := self._follower.receive()) is not None:
                self._runner.run(Batch.from_bytes(message))
        finally:
            self._follower.close()
