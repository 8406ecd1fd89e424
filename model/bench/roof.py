"""The least time a machine can take for a workload: it has to read the weights and to do the arithmetic.

Prefill is arithmetic: every prompt token passes every linear once, the head only for each prompt's last token. Each
later token of all requests is one step, which reads all weights and everyone's keys and values once, or is bound by
its arithmetic if that takes longer. Scales of quantized weights, norms and activations are left out: the roof is a
little higher than anything can reach, never lower.
"""

from dataclasses import dataclass
from math import prod
from typing import Final

from model.bench.workload import Workload
from model.checkpoint import ModelShape, tensor_shapes

BITS: Final = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}
"""Bits of one weight; keys and values have 32 in fp32, else 16."""
_EMBEDDING: Final = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured in this run."""

    read_bytes_per_s: float
    flops_per_s: float  # multiply and add count as two
    cpu: str = ""

    def best_of(self, other: "Machine") -> "Machine":
        """The larger of each rate: what disturbs a measurement only ever lowers it."""
        return Machine(
            max(self.read_bytes_per_s, other.read_bytes_per_s),
            max(self.flops_per_s, other.flops_per_s),
            self.cpu or other.cpu,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one decode step has to read and to compute."""

    num_bytes: float
    flops: float


def linear_parameters(shape: ModelShape) -> int:
    """Weights of all linears of all layers, without embedding and norms."""
    return sum(prod(size) for name, size in tensor_shapes(shape).items() if len(size) == 2 and name != _EMBEDDING)


def head_parameters(shape: ModelShape) -> int:
    """Weights of the head, which is the embedding."""
    return shape.vocabulary * shape.hidden


def weight_bytes(shape: ModelShape, dtype: str) -> float:
    """Bytes that a decode step reads of weights."""
    return (linear_parameters(shape) + head_parameters(shape)) * BITS[dtype] / 8


def kv_bytes_per_token(shape: ModelShape, dtype: str) -> int:
    """Bytes of keys and values of one token in all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * (4 if dtype == "fp32" else 2)


def prefill_flops(shape: ModelShape, workload: Workload) -> float:
    """Arithmetic of all prompts, without what is shared and cached."""
    cached = workload.shared_prefix_tokens
    own = workload.input_tokens - cached
    seen = own * cached + own * (own + 1) / 2  # pairs of a token and one it attends to
    linears = 2.0 * own * linear_parameters(shape) + 2.0 * head_parameters(shape)
    return workload.concurrency * (linears + _attention_flops(shape) * seen)


def decode_step(shape: ModelShape, dtype: str, workload: Workload) -> Step:
    """One step with all requests in the middle of their answers."""
    context = workload.input_tokens + workload.output_tokens / 2
    weights = linear_parameters(shape) + head_parameters(shape)
    flops = workload.concurrency * (2.0 * weights + _attention_flops(shape) * context)
    return Step(weight_bytes(shape, dtype) + kv_bytes(shape, dtype, workload), flops)


def kv_bytes(shape: ModelShape, dtype: str, workload: Workload) -> float:
    """Keys and values that a decode step reads, all requests in the middle of their answers."""
    context = workload.input_tokens + workload.output_tokens / 2
    return workload.concurrency * context * kv_bytes_per_token(shape, dtype)


def ideal_s(shape: ModelShape, dtype: str, workload: Workload, machine: Machine) -> float:
    """The least possible time for the whole workload. The first token of each answer comes out of prefill."""
    step = decode_step(shape, dtype, workload)
    step_s = max(step.num_bytes / machine.read_bytes_per_s, step.flops / machine.flops_per_s)
    read_once_s = weight_bytes(shape, dtype) / machine.read_bytes_per_s
    prefill_s = max(prefill_flops(shape, workload) / machine.flops_per_s, read_once_s)
    return prefill_s + (workload.output_tokens - 1) * step_s


def read_share(step_bytes: float, machine: Machine, itl_s: float) -> float:
    """Share of the read bandwidth that steps of `itl_s` seconds use."""
    return step_bytes / itl_s / machine.read_bytes_per_s if itl_s > 0 else 0.0


def _attention_flops(shape: ModelShape) -> float:
    """Arithmetic for a token and one that it attends to: scores and values, two operations a number, every layer."""
    return 4.0 * shape.layers * shape.attention_heads * shape.head_dim
