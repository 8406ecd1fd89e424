"""Who can be asked, with which Python, in which precision, and what it holds in memory."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from model.bench.roof import BITS, head_parameters, kv_bytes, kv_bytes_per_token, linear_parameters, weight_bytes
from model.bench.workload import Workload
from model.checkpoint import ModelShape

OURS: Final = "gemmule"
_GIB: Final = 2**30


class BenchError(Exception):
    """One sentence: what cannot be measured, why, and the cure where there is one."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine. `home` is its environment's folder among the peers, None for gemmule's own.

    Memory while it serves: `weight_copies` of the weights, the keys and values, `fixed_bytes` for its processes
    (roughly, from what the whole machine used). `bits` of a weight in the layers and in the head, scales included, for
    dtypes that it stores in more than the dtype's own.
    """

    name: str
    module: str
    home: str | None
    dtypes: tuple[str, ...]
    weight_copies: float
    fixed_bytes: int
    bits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def python(self, peers: Path) -> Path:
        """The interpreter that runs it."""
        return Path(sys.executable) if self.home is None else (peers / self.home / "bin" / "python").absolute()

    def refusal(self, dtype: str, peers: Path) -> str | None:
        """Why it cannot be asked, in one sentence; None when it can."""
        if dtype not in self.dtypes:
            return f"{self.name} is measured in {', '.join(self.dtypes)} and not in {dtype}, so it is left out"
        if not self.python(peers).exists():
            return f"{self.name} is not installed in {peers / str(self.home)}: run `make peers`"
        return None

    def memory_bytes(self, shape: ModelShape, dtype: str, longest: Workload) -> int:
        """What it will hold, about."""
        kept = longest.concurrency * longest.context_tokens * kv_bytes_per_token(shape, dtype)
        return int(weight_bytes(shape, dtype) * self.weight_copies) + kept + self.fixed_bytes

    def step_bytes(self, shape: ModelShape, dtype: str, workload: Workload) -> float:
        """What a decode step reads: weights as this engine stores them, keys and values."""
        layers, head = self.bits.get(dtype, (BITS[dtype], BITS[dtype]))
        weights = linear_parameters(shape) * layers + head_parameters(shape) * head
        return weights / 8 + kv_bytes(shape, dtype, workload)


_ALL: Final = ("bf16", "fp32", "int8", "int4")
_OURS_BITS: Final = MappingProxyType({"int4": (4.5, 8.0)})  # a scale of 16 bits for 32 weights; the head stays in int8
_LLAMA_BITS: Final = MappingProxyType({"int8": (8.5, 8.5), "int4": (4.5, 4.5)})  # q8_0 and q4_0, the head too

ENGINES: Final[Mapping[str, EngineFacts]] = MappingProxyType(
    {
        facts.name: facts
        for facts in (
            EngineFacts(OURS, "model.bench.run_gemmule", None, _ALL, 1.2, _GIB, _OURS_BITS),
            EngineFacts("vllm", "model.bench.run_vllm", "vllm", ("bf16", "fp32"), 1.2, 2 * _GIB),
            EngineFacts(
                "llama.cpp", "model.bench.run_llama", "llama.cpp", ("bf16", "int8", "int4"), 1.3, _GIB, _LLAMA_BITS
            ),
            EngineFacts("transformers", "model.bench.run_transformers", None, ("bf16", "fp32"), 1.1, _GIB),
        )
    }
)
PEERS: Final = tuple(name for name in ENGINES if name != OURS)
