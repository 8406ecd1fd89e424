"""Sampled prompts for tests."""

from pathlib import Path

from serving.traffic.store import Sampled


def a_prompt(text: str, time_s: float = 1000.0, model: str = "auto") -> Sampled:
    """Its token ids are its letters, so that equal texts are equal prompts."""
    return Sampled(time_s, model, text, 1, (2, *(300 + ord(letter) for letter in text)), 64)


def bytes_of(path: Path) -> bytes:
    """Everything that a store has on disk."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()) if file.name.startswith(path.name))
