"""What is asked of every engine: prompts as token ids, all sent at once, and answers of an exact length."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final

_FIRST_PLAIN_ID: Final = 300  # below are special tokens and bytes, which no prompt needs
_BOS_ID: Final = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """`concurrency` requests sent at once, each of `input_tokens`, the first `shared_prefix_tokens` of them common.

    The shared part is in every engine's cache before the clock starts, as a system prompt is in a running service.
    """

    concurrency: int
    input_tokens: int = 128
    output_tokens: int = 32
    shared_prefix_tokens: int = 0
    seed: int = 0

    @property
    def context_tokens(self) -> int:
        """Prompt and answer of one request."""
        return self.input_tokens + self.output_tokens

    @property
    def total_output_tokens(self) -> int:
        """Tokens that all answers have together."""
        return self.concurrency * self.output_tokens

    def to_json(self) -> dict[str, Any]:
        """As it goes down a pipe."""
        return asdict(self)


PRESETS: Final[Mapping[str, Workload]] = MappingProxyType(
    {
        "default": Workload(1),
        "long": Workload(1, input_tokens=2048),
        "prefix": Workload(1, input_tokens=1024 + 64, shared_prefix_tokens=1024),
    }
)


def preset(name: str, concurrency: int, round_number: int = 0, tiny: bool = False) -> Workload:
    """A named workload. Each round has prompts of its own, so no cache of the last one helps; `tiny` is for tests."""
    chosen = replace(PRESETS[name], concurrency=concurrency, seed=round_number)
    if not tiny:
        return chosen
    shared = chosen.shared_prefix_tokens // 16
    return replace(chosen, input_tokens=chosen.input_tokens // 16, output_tokens=4, shared_prefix_tokens=shared)


def prompts(workload: Workload, vocabulary: int) -> list[list[int]]:
    """The prompts, [concurrency][input_tokens], the same on every machine; each begins with `<bos>`."""
    rng = random.Random(f"own {workload.seed}")
    start = shared_prefix(workload, vocabulary) or [_BOS_ID]
    return [start + _ids(rng, workload.input_tokens - len(start), vocabulary) for _ in range(workload.concurrency)]


def shared_prefix(workload: Workload, vocabulary: int) -> list[int]:
    """The common beginning; empty when there is none."""
    rng, tokens = random.Random(f"shared {workload.seed}"), workload.shared_prefix_tokens
    return [_BOS_ID, *_ids(rng, tokens - 1, vocabulary)] if tokens else []


def _ids(rng: random.Random, count: int, vocabulary: int) -> list[int]:
    return [rng.randrange(_FIRST_PLAIN_ID, vocabulary) for _ in range(count)]
