"""A request as the simulator takes it: what the policy sees of it, and what only time will tell."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.snapshot import RouteFacts
from model.config import Size


@dataclass(frozen=True, slots=True)
class Ask:
    """`facts` are the policy's. The rest becomes known when a size answers."""

    number: int
    at_s: float
    facts: RouteFacts
    output_tokens: Mapping[Size, int]  # that each size would write
    right: frozenset[Size] = frozenset()  # sizes whose answer would be right
    blocks: tuple[int, ...] = ()  # names of the prompt's blocks, the last of which may be in part
    block_tokens: int = 512
    session: str = ""
    priority: int = 0
