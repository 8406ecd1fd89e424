"""The Mooncake conversation trace, thinned by whole conversations and scaled down to a small model.

Each line has `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, one per 512 tokens of prompt; equal ids
are equal text after equal text. Source: kvcache-ai/Mooncake, Apache-2.0 (FAST '25).
"""

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path

from cluster.replay import Arrival
from model.request import GenerationRequest, RequestId, SamplingParams

_BLOCK = 512  # tokens of a block in the trace
_FIRST_ID, _LAST_ID = 364, 1700  # ordinary words of the embedded family


def load(
    path: Path, num_requests: int, block_tokens: int, seconds: float, max_prompt_tokens: int, seed: int
) -> list[Arrival]:
    """About so many requests within `seconds`, all turns of each conversation that was drawn.

    A block becomes `block_tokens` tokens, and answers shrink alike. Conversations are told apart by their second block:
    the first is one system prompt for all. One with a prompt that grows too long is left out whole.
    """
    scale = block_tokens / _BLOCK
    conversations = defaultdict(list)
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            conversations[(row["hash_ids"] + [-1])[1]].append(row)
    fitting = [
        rows for rows in conversations.values() if max(row["input_length"] for row in rows) * scale <= max_prompt_tokens
    ]
    rng = random.Random(seed)
    rng.shuffle(fitting)
    drawn = []
    for rows in fitting:
        if len(drawn) >= num_requests:
            break
        drawn += rows
    drawn.sort(key=lambda row: row["timestamp"])
    first_ms, last_ms = drawn[0]["timestamp"], drawn[-1]["timestamp"]
    pace = seconds / max(1, last_ms - first_ms)
    return [
        Arrival((row["timestamp"] - first_ms) * pace, _request(number, row, scale, block_tokens))
        for number, row in enumerate(drawn)
    ]


def _request(number: int, row: dict, scale: float, block_tokens: int) -> GenerationRequest:
    ids = [2]
    for block in row["hash_ids"]:
        rng = random.Random(block)
        ids += (rng.randrange(_FIRST_ID, _LAST_ID) for _ in range(block_tokens))
    ids = ids[: max(2, round(row["input_length"] * scale))]
    sampling = SamplingParams(max(1, round(row["output_length"] * scale)), temperature=0.0, ignore_eos=True)
    return GenerationRequest(RequestId(f"c{number}"), tuple(ids), sampling, timeout_s=300.0)
