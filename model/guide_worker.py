"""The process that compiles guides, so that one can be stopped: `python -m model.guide_worker SOCKET SETUP`.

The compiler is C++ that nothing interrupts, and some small guides take it minutes or gigabytes. So every guide is
compiled in a process of its own, forked from this one, which has the libraries and the vocabulary loaded; the kernel
ends it when its time or memory is used up. This process ends when its parent's end of the socket is closed.
"""

import json
import os
import random
import re
import resource
import signal
import socket
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import torch
import xgrammar

from model.request import Guide, GuideKind

STARTED, COMPILED, REFUSED = b"s", b"c", b"r"
"""First bytes of answers."""

_MEMORY_BYTES: Final = 2 << 30
_TRIAL_TOKENS: Final = 32
_PLACE: Final = re.compile(r"^\[[\d:]+\] \S+:\d+: ?(?:Warning: )?", re.MULTILINE)
"""Time and source line, which the library puts in front of its messages."""


_MOST_WHITESPACE: Final = 2
"""In a row, outside of strings: without a bound a small model goes on with spaces until its tokens run out."""


def load_vocabulary(pieces: list[str], stop_ids: list[int]) -> xgrammar.TokenizerInfo:
    """Gemma's pieces as bytes: `▁` is a space and `<0x41>` a byte. Empty pieces never stand in a guided answer."""
    return xgrammar.TokenizerInfo(
        pieces,
        vocab_type=xgrammar.VocabType.BYTE_FALLBACK,
        vocab_size=len(pieces),
        stop_token_ids=stop_ids,
        add_prefix_space=False,
    )


def compile_guide(vocabulary: xgrammar.TokenizerInfo, guide: Guide) -> xgrammar.CompiledGrammar:
    """The guide for the machine; raises `RuntimeError` where it is malformed."""
    compiler = xgrammar.GrammarCompiler(vocabulary, max_threads=2, cache_enabled=False)
    match guide.kind:
        case GuideKind.JSON_SCHEMA:
            return compiler.compile_json_schema(guide.text, max_whitespace_cnt=_MOST_WHITESPACE)
        case GuideKind.REGEX:
            return compiler.compile_regex(guide.text)
        case GuideKind.GRAMMAR:
            return compiler.compile_grammar(guide.text)
        case _:
            raise RuntimeError(f"{guide.kind} is not prepared")


def main(control: socket.socket, setup: int) -> None:
    """Fork for each connection that comes over the socket; the file `setup` holds the vocabulary."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    with open(setup) as file:
        vocabulary = load_vocabulary(**json.load(file))
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            return
        with Connection(handles[0]) as connection:
            if os.fork() == 0:
                try:
                    control.close()
                    _answer(connection, vocabulary)
                finally:
                    os._exit(0)


def _answer(connection: Connection, vocabulary: xgrammar.TokenizerInfo) -> None:
    """Compile one guide and send it; the kernel may end this at any point."""
    asked = json.loads(connection.recv_bytes())
    connection.send_bytes(STARTED)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # address space in use
    resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY_BYTES, now + _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, asked["limit_s"])
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)  # the library says there which rules it leaves out
            grammar = compile_guide(vocabulary, Guide(GuideKind(asked["kind"]), asked["text"]))
            file.seek(0)
            if said := file.read().decode(errors="replace"):
                raise RuntimeError(said)
        _try(grammar, vocabulary)
        connection.send_bytes(COMPILED + grammar.serialize_json().encode())
    except (RuntimeError, ValueError, MemoryError) as error:
        connection.send_bytes(REFUSED + (_PLACE.sub("", str(error)).strip() or "needs too much memory")[:500].encode())


def _try(grammar: xgrammar.CompiledGrammar, vocabulary: xgrammar.TokenizerInfo) -> None:
    """Follow the grammar for some random tokens: what has no way out or takes too long is found here, not in a step."""
    matcher = xgrammar.GrammarMatcher(grammar)
    mask = torch.zeros(1, -(-vocabulary.vocab_size // 32), dtype=torch.int32)
    chance = random.Random(0)  # noqa: S311  # no secret hangs on it
    stops = set(vocabulary.stop_token_ids)
    for _ in range(_TRIAL_TOKENS):
        matcher.fill_next_token_bitmask(mask, 0)
        allowed = (mask.view(-1, 1) >> torch.arange(32, dtype=torch.int32)).bitwise_and(1).flatten().nonzero()[:, 0]
        if not len(allowed):
            raise RuntimeError("leads to a place where no token is allowed")
        going = [token_id for token_id in allowed.tolist() if token_id not in stops]
        if not going:
            return
        matcher.accept_token(chance.choice(going))


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
