"""Who is who in a group of ranks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class World:
    """One rank's place in its replica. All ranks of a replica are on one host."""

    rank: int = 0
    size: int = 1
    master_address: str = "127.0.0.1"
    master_port: int = 0  # 0 where there is nobody to meet

    @property
    def sharded(self) -> bool:
        """Whether there is more than one rank."""
        return self.size > 1
