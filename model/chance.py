"""Random numbers by place: what is drawn depends on a seed and a position, and on nothing that happened before."""

from typing import Final

_WORD: Final = 2**64 - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits; the same for the same pair, whatever else was drawn.

    Number `position` of the SplitMix64 stream that begins at the mixed seed (Steele, Lea, Flood 2014). Only the lower
    64 bits of the seed count, so negative seeds are as good as others.
    """
    return (_mixed(_mixed(seed + _GOLDEN) + (position + 1) * _GOLDEN) >> 11) * 2.0**-53


def _mixed(word: int) -> int:
    """SplitMix64's finaliser: every bit of the result hangs on every bit of the word."""
    word &= _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
