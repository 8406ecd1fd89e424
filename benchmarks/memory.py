"""What one engine's process really takes, beside what `model.memory` says before the start.

usage: python benchmarks/memory.py FOLDER SIZE [--quantization int8] [--kv-tokens 8192] [--max-step-tokens 512]

The largest step is made: a prompt whose every token is scored. FOLDER may hold random weights, such as `gemmule bench
engine --shape 2b` leaves in .gemmule/bench/2b-weights. With more than 8,192 `--kv-tokens` the system gives pages of the
cache when they are first written, so that a process seems to need less than it will.
"""

import argparse
import asyncio
import threading
import time
from contextlib import aclosing
from pathlib import Path

import psutil

from model.checkpoint import shape_of
from model.config import Dtype, EngineConfig, Quantization, Size
from model.engine import Engine
from model.memory import MemoryEstimate, estimate
from model.request import GenerationRequest, RequestId, SamplingParams

GB = 1e9


class Peak:
    """The most that this process has had, looked at 50 times a second."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.is_set():
            self.num_bytes = max(self.num_bytes, psutil.Process().memory_info().rss)
            time.sleep(0.02)

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.num_bytes


async def measure(folder: Path, config: EngineConfig) -> int:
    """Bytes at the peak of the largest step."""
    engine = Engine(folder, config)
    await engine.start()
    peak = Peak()
    ids = (2, *(4 + token % 1000 for token in range(config.max_step_tokens - 1)))
    params = SamplingParams(2, temperature=0.0, logprobs=5, prompt_logprobs=5)
    async with aclosing(engine.submit(GenerationRequest(RequestId("m"), ids, params, 3600.0))) as events:
        async for _ in events:
            pass
    most = peak.end()
    await engine.close()
    return most


def line(name: str, need: MemoryEstimate, used_bytes: int) -> str:
    parts = (need.weight_bytes, need.kv_bytes, need.workspace_bytes, need.total_bytes, used_bytes)
    off = need.total_bytes / used_bytes - 1
    return f"| {name} | " + " | ".join(f"{part / GB:.2f} GB" for part in parts) + f" | {off:+.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="An engine's memory, measured and estimated.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=Size)
    parser.add_argument("--quantization", type=Quantization)
    parser.add_argument("--kv-tokens", type=int, default=8192)
    parser.add_argument("--max-step-tokens", type=int, default=512)
    options = parser.parse_args()
    config = EngineConfig(dtype=Dtype.BF16, quantization=options.quantization, kv_tokens=options.kv_tokens,
                          max_step_tokens=options.max_step_tokens)  # fmt: skip
    used_bytes = asyncio.run(measure(options.folder, config))
    name = f"{options.size}, {options.quantization or config.dtype}, {options.kv_tokens} / {options.max_step_tokens}"
    print(line(name, estimate(shape_of(options.size), 1, config), used_bytes))


if __name__ == "__main__":
    main()
