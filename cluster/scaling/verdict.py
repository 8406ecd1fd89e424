"""What the scaling policy decided, for whoever shows it or routes by it. Pure."""

from dataclasses import dataclass

from model.config import Size


@dataclass(frozen=True, slots=True)
class SizeVerdict:
    """One size: what it shall have, what it has, and why."""

    size: Size
    target: int
    wanted: int  # that its own requests call for
    running: int
    starting: int
    draining: int
    devices: float  # that one replica takes
    reason: str
    cold_start_s: float | None = None  # of the last start, from the wish to the first request
    place_s: float | None = None  # of that, until the replica's process began: node, image and process

    @property
    def refused(self) -> bool:
        """It sleeps though somebody asks for it: the budget has no room."""
        return self.target == 0 and self.wanted > 0


@dataclass(frozen=True, slots=True)
class Move:
    """A step that was taken."""

    at_s: float  # seconds since 1970
    size: Size
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All sizes at one look. `number` grows with each."""

    number: int = 0
    budget_devices: float = 0.0
    sizes: tuple[SizeVerdict, ...] = ()
    moves: tuple[Move, ...] = ()  # the last ones, oldest first

    def get(self, size: Size) -> SizeVerdict | None:
        """Of one size; None while nothing was decided."""
        return next((each for each in self.sizes if each.size is size), None)

    @property
    def used_devices(self) -> float:
        """Taken now, by replicas that serve, start or drain."""
        return sum((each.running + each.starting + each.draining) * each.devices for each in self.sizes)
