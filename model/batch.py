"""A step plan as the arrays that every rank computes on: plain numbers, so that they travel between ranks as is."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from model.step import StepPlan

Ints = npt.NDArray[np.int32]
_HEAD: Final = struct.Struct("<4i")


@dataclass(frozen=True, slots=True)
class Batch:
    """T tokens of S sequences, flattened; R of the tokens need logits.

    A table holds, for each sequence, the block of every run of `block_tokens` positions, -1 where there is none any
    more. Both are [S, W].
    """

    ids: Ints  # [T]
    positions: Ints  # [T]
    starts: Ints  # [S + 1]: sequence s owns tokens starts[s] to starts[s + 1]
    logit_rows: Ints  # [R], rising
    global_table: Ints
    window_table: Ints

    def to_bytes(self) -> bytes:
        """All arrays, behind their sizes."""
        head = _HEAD.pack(len(self.ids), len(self.starts) - 1, len(self.logit_rows), self.global_table.shape[1])
        arrays = (self.ids, self.positions, self.starts, self.logit_rows, self.global_table, self.window_table)
        return b"".join([head, *(array.tobytes() for array in arrays)])

    @staticmethod
    def from_bytes(raw: bytes | bytearray) -> "Batch":
        """What `to_bytes` made."""
        tokens, sequences, rows, width = _HEAD.unpack_from(raw)
        numbers, parts = np.frombuffer(raw, np.int32, offset=_HEAD.size), []
        for count in (tokens, tokens, sequences + 1, rows, sequences * width, sequences * width):
            parts.append(numbers[:count])
            numbers = numbers[count:]
        tables = [part.reshape(sequences, width) for part in parts[4:]]
        return Batch(*parts[:4], *tables)


def make_batch(plan: StepPlan, block_tokens: int) -> Batch:
    """Flatten a plan that is not empty."""
    spans = plan.spans
    lengths = np.array([len(span.tokens) for span in spans], np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = np.fromiter((token for span in spans for token in span.tokens), np.int32, int(starts[-1]))
    positions = np.concatenate([np.arange(s.start, s.start + len(s.tokens), dtype=np.int32) for s in spans])
    rows = [np.arange(end - span.num_logits, end, dtype=np.int32) for span, end in zip(spans, starts[1:], strict=True)]
    width = max(-(-(span.start + len(span.tokens)) // block_tokens) for span in spans)
    tables = np.full((2, len(spans), width), -1, np.int32)
    for index, span in enumerate(spans):
        _fill(tables[0, index], span.sequence.global_blocks)
        _fill(tables[1, index], span.sequence.window_blocks)
    return Batch(ids, positions, starts, np.concatenate(rows), tables[0], tables[1])


def _fill(row: Ints, blocks: list[int]) -> None:
    used = min(len(row), len(blocks))
    row[:used] = blocks[:used]
