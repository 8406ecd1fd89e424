"""Exact arithmetic on rows of logits: an order without ties, and sums that do not depend on how they are summed.

Floating-point sums over a row differ in their last bits with the number of rows, threads and the device's kernels;
with them, a text would depend on its company. Sums of whole numbers do not. `exp` and the four operations are taken
element by element and give the same bits everywhere on one device.
"""

from typing import Final

import torch
from torch import Tensor

# N rows, V vocabulary

UNIT: Final = 2**44
"""Mass of the likeliest token. 2^18 tokens of it still fit in 63 bits; what is below 2^-44 of it is never drawn."""


def masses(scaled: Tensor) -> Tensor:
    """Probabilities, not normalised, as whole numbers: [N, V] int64 of log-weights [N, V] fp32 that are 0 at most."""
    return scaled.exp().mul_(float(UNIT)).to(torch.int64)  # a power of two: the product is exact


def keys(values: Tensor) -> Tensor:
    """[N, V] int64 in the order of values [N, V] fp32; of equals the first token has the larger key. No two agree."""
    bits = (values + 0.0).view(torch.int32)  # adding makes one zero of -0.0 and 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # signed integers in the order of the floats
    back = torch.arange(values.size(-1) - 1, -1, -1, device=values.device)
    return (bits.to(torch.int64) << 32) | back
