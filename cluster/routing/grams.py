"""A text as hashed n-grams of characters and of words, by a few passes of numpy over its bytes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

BUCKETS_BITS: Final = 14
BUCKETS: Final = 1 << BUCKETS_BITS
MAX_BYTES: Final = (
    3000  # about 750 tokens, under a millisecond; of a longer text its beginning and its end are read, half each
)
_CHARACTERS: Final = (3, 4, 5)  # lengths of the n-grams
_WORDS: Final = 3
_LONGEST_WORD: Final = 64

Buckets = NDArray[np.int64]
_Hash = NDArray[np.uint32]


def _kinds() -> NDArray[np.uint8]:
    """Letter 1, digit 2, anything else 0; bytes of other scripts count as letters."""
    kinds = np.zeros(256, np.uint8)
    kinds[[byte for byte in range(256) if byte >= 128 or chr(byte).isalpha()]] = 1
    kinds[list(b"0123456789")] = 2
    return kinds


def _folded() -> NDArray[np.uint8]:
    """Digits look alike: how large numbers are is told by counts, not by n-grams."""
    folded = np.arange(256, dtype=np.uint8)
    folded[list(b"0123456789")] = ord("0")
    return folded


_KINDS: Final = _kinds()
_FOLDED: Final = _folded()
_POWERS: Final = np.array([pow(31, i, 1 << 32) for i in range(_LONGEST_WORD)], np.uint32)


@dataclass(frozen=True, slots=True)
class Grams:
    """Bucket of every n-gram, with repetitions: [number of n-grams] each."""

    characters: Buckets
    words: Buckets


def grams(text: str) -> Grams:
    """Lower case; words are runs of letters or digits, and every other sign but space is a word of its own."""
    raw = text.lower().encode("utf-8", "replace")
    if len(raw) > MAX_BYTES:
        raw = raw[: MAX_BYTES // 2] + raw[-MAX_BYTES // 2 :]
    signs = _FOLDED[np.frombuffer(b" " + raw + b" ", np.uint8)]
    return Grams(_characters(signs.astype(np.uint32)), _words(signs))


def _characters(signs: _Hash) -> Buckets:
    found, rolling = [], signs
    for length in range(2, max(_CHARACTERS) + 1):
        if len(signs) < length:
            break
        rolling = rolling[:-1] * np.uint32(257) + signs[length - 1 :]
        if length in _CHARACTERS:
            found.append(_bucket(rolling, length))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _words(signs: NDArray[np.uint8]) -> Buckets:
    kinds = _KINDS[signs]
    starts = np.concatenate([[0], np.flatnonzero((kinds[1:] != kinds[:-1]) | (kinds[1:] == 0)) + 1])
    lengths = np.diff(np.append(starts, len(signs)))
    within = np.arange(len(signs)) - np.repeat(starts, lengths)
    letters = signs.astype(np.uint32) * _POWERS[np.minimum(within, _LONGEST_WORD - 1)]
    words = np.add.reduceat(letters, starts)[signs[starts] != ord(" ")].astype(np.uint32)
    found, rolling = [], words
    for length in range(1, _WORDS + 1):
        if len(words) < length:
            break
        if length > 1:
            rolling = rolling[:-1] * np.uint32(1000003) + words[length - 1 :]
        found.append(_bucket(rolling, 16 + length))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _bucket(hashes: _Hash, salt: int) -> Buckets:
    """Mixed, so that near hashes fall apart (the finisher of MurmurHash3, A. Appleby, public domain)."""
    mixed = (hashes ^ np.uint32(salt * 0x9E3779B1 & 0xFFFFFFFF)) * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed = mixed * np.uint32(0xC2B2AE35)
    return (mixed >> np.uint32(32 - BUCKETS_BITS)).astype(np.int64)
