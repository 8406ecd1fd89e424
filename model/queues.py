"""Who runs and who waits, in one order."""

from bisect import insort

from model.sequence import Sequence


class Queues:
    """All sequences stand in one order: priority less age over `aging_s`, then arrival; lower goes first.

    Both of two sequences age alike, so their order never changes: whoever is once ahead of everybody stays so, however
    many come later with a better priority.
    """

    def __init__(self, aging_s: float) -> None:
        self._aging_s = aging_s
        self.running: list[Sequence] = []  # both lists in order
        self.waiting: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def order(self, sequence: Sequence) -> tuple[float, int]:
        """Its place: priority - (now - arrival) / aging, without the part that is the same for all."""
        return sequence.request.priority + sequence.arrival_s / self._aging_s, sequence.number

    def add(self, sequence: Sequence) -> None:
        """It waits."""
        insort(self.waiting, sequence, key=self.order)

    def admit_first(self) -> None:
        """The first of the waiting runs."""
        insort(self.running, self.waiting.pop(0), key=self.order)

    def preempt(self, sequence: Sequence) -> None:
        """It waits again, in its old place."""
        self.running.remove(sequence)
        self.add(sequence)

    def remove(self, sequence: Sequence) -> bool:
        """It leaves; False if it was not here."""
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
                return True
        return False
