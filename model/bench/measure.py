"""`python -m model.bench.measure DTYPE THREADS`: what this machine can read and compute, as one JSON line."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

_READ_BYTES: Final = 2**29  # far more than any cache
_READS: Final = 12
_SIDE: Final = (256, 2304, 9216)  # rows, in and out: a prefill chunk through the 2B's widest linear
_TRIES: Final = 6
_ENOUGH_S: Final = 1.5  # no further try after so long


def read_bytes_per_s(threads: int) -> float:
    """Best rate of reading memory. A sum in torch reads at the rate of plain vector loads (within 3 %, AVX2, 2026)."""
    torch.set_num_threads(threads)
    numbers = torch.ones(_READ_BYTES // 4)
    return _READ_BYTES / _least_s(numbers.sum, _READS)


def flops_per_s(dtype: str, threads: int) -> float:
    """Best rate of a matrix multiply of weights in `dtype`.

    Weights may always be widened, so a processor that emulates bf16 is measured by what it does in fp32.
    """
    torch.set_num_threads(threads)
    rows, width, out = _SIDE
    kinds = [torch.float32] if dtype == "fp32" else [torch.float32, torch.bfloat16]
    rates = []
    for kind in kinds:
        left, right = torch.randn(rows, width).to(kind), torch.randn(out, width).to(kind)
        rates.append(2 * rows * width * out / _least_s(lambda a=left, b=right: a @ b.T, _TRIES))  # type: ignore[misc]
    return max(rates)


def cpu_name() -> str:
    """The processor as the kernel names it, and the vector instructions that matter here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", "").split())
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in flags]
    return f"{facts.get('model name', 'unknown')} ({', '.join(known) or 'no vectors'})"


def _least_s(run: Callable[[], object], tries: int) -> float:
    best, spent_s = float("inf"), 0.0
    for _ in range(tries):
        began_s = time.perf_counter()
        run()
        took_s = time.perf_counter() - began_s
        best, spent_s = min(best, took_s), spent_s + took_s
        if spent_s > _ENOUGH_S:
            break
    return best


def main() -> None:
    """Measure and print."""
    dtype, threads = sys.argv[1], int(sys.argv[2])
    facts = {
        "read_bytes_per_s": read_bytes_per_s(threads),
        "flops_per_s": flops_per_s(dtype, threads),
        "cpu": cpu_name(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
