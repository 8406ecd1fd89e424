"""Facts of the three Gemma 2 sizes, and the settings of one engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class Size(StrEnum):
    """Which weights, and so which deployment."""

    B2 = "2b"
    B9 = "9b"
    B27 = "27b"


class Dtype(StrEnum):
    """Precision of weights and activations."""

    FP32 = "fp32"
    BF16 = "bf16"

    @property
    def num_bytes(self) -> int:
        """Bytes of one number."""
        return {Dtype.FP32: 4, Dtype.BF16: 2}[self]


class Quantization(StrEnum):
    """How linears are stored when they are not stored in the dtype. Weight-only: activations keep theirs."""

    INT8 = "int8"  # one scale per output
    INT4 = "int4"  # one bf16 scale per 32 inputs of an output

    @property
    def bits(self) -> float:
        """Bits of one weight, its share of the scale included."""
        return {Quantization.INT8: 8.0, Quantization.INT4: 4.5}[self]


@dataclass(frozen=True, slots=True)
class SizeFacts:
    """The published shape of one size (Gemma 2 report, 2024, table 1; `config.json` of the released checkpoints)."""

    layers: int
    hidden: int
    intermediate: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    query_pre_attn_scalar: int  # 27B: hidden / heads = 144, not the head size
    parameters_e9: float
    memory_gb: float  # published need of a device in bf16
    memory_quantized_gb: float | None  # the same, quantized (9B 4-bit, 27B int8)

    @property
    def max_degree(self) -> int:
        """Largest tensor-parallel degree that does not copy KV heads."""
        return self.kv_heads


SIZES: Final[Mapping[Size, SizeFacts]] = MappingProxyType(
    {
        Size.B2: SizeFacts(26, 2304, 9216, 8, 4, 256, 256, 2.61, 8.0, None),
        Size.B9: SizeFacts(42, 3584, 14336, 16, 8, 256, 256, 9.24, 24.0, 12.0),
        Size.B27: SizeFacts(46, 4608, 36864, 32, 16, 128, 144, 27.23, 80.0, 40.0),
    }
)

CONTEXT_TOKENS: Final = 8192
"""Context of every size (Gemma 2 report, 2024)."""
SLIDING_WINDOW_TOKENS: Final = 4096
"""What the local layers of the released checkpoints see, the token itself included."""
VOCABULARY: Final = 256_000

PAD_ID: Final = 0
EOS_ID: Final = 1
BOS_ID: Final = 2
START_OF_TURN_ID: Final = 106
END_OF_TURN_ID: Final = 107
STOP_IDS: Final = (EOS_ID, END_OF_TURN_ID)
"""Gemma's token ids, kept by the embedded family."""


class EngineConfig(BaseModel):
    """Settings of one engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype = Field(Dtype.FP32, description="Precision of weights and activations.")
    quantization: Quantization | None = Field(
        None, description="Weight-only quantization while loading; null for none."
    )
    max_running: int = Field(32, ge=1, le=1024, description="Requests that one replica decodes at once.")
    max_waiting: int = Field(128, ge=0, description="Requests that may wait in one replica before it refuses more.")
    kv_tokens: int = Field(32_768, ge=256, description="Tokens of keys and values that one replica keeps.")
    kv_memory_gb: float | None = Field(
        None, gt=0, description="GB (10⁹ bytes) of each rank for keys and values; null: what kv_tokens need."
    )
    max_step_tokens: int = Field(512, ge=16, description="Tokens of prefill and decode in one step.")
