"""Files that others may read at any moment."""

from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write a file; one that was there is replaced at once or not at all."""
    made = path.with_name(path.name + ".new")
    made.write_text(text, encoding="utf-8")
    made.replace(path)
