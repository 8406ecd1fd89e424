"""What a request costs on a size: the one unit that routing, planning and accounts share."""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

PROMPT_SHARE: Final = 0.25  # a prompt's tokens are read many at once: each costs a quarter of one that is written

Number = TypeVar("Number", float, NDArray[np.float64])


def cost(parameters_e9: Number, prompt_tokens: Number, output_tokens: Number) -> Number:
    """Parameters in 10^9 x (prompt tokens / 4 + output tokens)."""
    return parameters_e9 * (PROMPT_SHARE * prompt_tokens + output_tokens)


def usd(usd_per_mtoken: float, prompt_tokens: float, output_tokens: float) -> float:
    """Price of a request on a size whose million output tokens cost so much."""
    return cost(float(usd_per_mtoken), float(prompt_tokens), float(output_tokens)) / 1e6
