"""A weight as the kernels read it: packed in panels, in one of four precisions, filled while it is read from a file."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import torch

from model.config import Dtype, Quantization

PANEL: Final = 16  # rows that lie side by side; a weight's rows are a multiple
GROUP: Final = 32  # inputs that share an int4 scale


class Kind(IntEnum):
    """How a weight is stored; the numbers are those of kernels.cpp."""

    FP32 = 0
    BF16 = 1
    INT8 = 2
    INT4 = 3


def kind_of(dtype: Dtype, quantization: Quantization | None) -> Kind:
    """The storage of linears."""
    return Kind[(quantization or dtype).name]


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix W [rows, width]; `reduced`: W is this rank's share of the width, so products are summed over ranks."""

    kind: Kind
    rows: int
    width: int
    data: torch.Tensor
    scales: torch.Tensor
    reduced: bool = False

    @property
    def num_bytes(self) -> int:
        """Bytes of memory, scales included."""
        return self.data.nbytes + self.scales.nbytes


def empty_scales(kind: Kind, rows: int, width: int) -> torch.Tensor:
    """fp32 [rows] for int8, bf16 [rows / PANEL, width / GROUP, PANEL] for int4, nothing else."""
    if kind is Kind.INT8:
        return torch.empty(rows, dtype=torch.float32)
    if kind is Kind.INT4:
        return torch.empty(rows // PANEL, width // GROUP, PANEL, dtype=torch.bfloat16)
    return torch.empty(0)
