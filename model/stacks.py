"""Where this process's Python threads are, many times a second: the raw matter of a flame graph.

Only names of functions and files are read, never a variable, so nothing that a request said can get out. A thread in
our kernels has let go of the interpreter and is seen where it called them. Reading `sys._current_frames` needs no
rights to look into a process, which a debugger's way (ptrace) would, and which containers rarely have.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Final

PERIOD_S: Final = 0.01
"""A look at a dozen threads took 0.02 ms (two slow cores, 2026-11-24): watching costs under a hundredth."""

Path = tuple[str, tuple[CodeType, ...]]  # name of the thread, then its functions, outermost first


def sample_stacks(over: threading.Event, timeout_s: float, period_s: float = PERIOD_S) -> dict[str, int]:
    """`thread;outermost;…;innermost` -> looks at which a thread was there, until `over` or the time has passed.

    Blocks; the calling thread is left out.
    """
    seen: Counter[Path] = Counter()
    looks_left = int(timeout_s / period_s)  # a busy interpreter makes looks late, and then there are fewer
    until = threading.Timer(timeout_s, over.set)
    until.start()
    try:
        while looks_left and not over.wait(period_s):
            looks_left -= 1
            names = {thread.ident or 0: thread.name for thread in threading.enumerate()}
            seen.update(look(sys._current_frames(), names, without={threading.get_ident(), until.ident or 0}))
    finally:
        until.cancel()
    return collapsed(seen)


def look(frames: Mapping[int, FrameType], names: Mapping[int, str], without: set[int]) -> list[Path]:
    """Where every thread is now."""
    return [(names.get(ident, "other"), _path(frame)) for ident, frame in frames.items() if ident not in without]


def collapsed(seen: Mapping[Path, int]) -> dict[str, int]:
    """The same in the words that flame graphs are drawn from, most frequent first."""
    lines: Counter[str] = Counter()
    for (thread, codes), count in seen.items():
        lines[";".join(_clean(name) for name in (thread, *map(_name, codes)))] += count
    return dict(lines.most_common())


def _path(frame: FrameType | None) -> tuple[CodeType, ...]:
    codes: list[CodeType] = []
    while frame is not None:
        codes.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(codes))


def _name(code: CodeType) -> str:
    return f"{code.co_qualname} ({_short(code.co_filename)})"


def _short(filename: str) -> str:
    """As an import would say it: where a machine keeps its files is nobody's business."""
    homes = [home for home in sys.path if home and filename.startswith(home + os.sep)]
    return filename[len(max(homes, key=len)) + 1 :] if homes else os.path.basename(filename)


def _clean(name: str) -> str:
    return name.replace(";", ",").replace("\n", " ")
