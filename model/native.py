"""The operations of a step on CPU, by our own kernels: weights are read once, rows do not depend on each other."""

from dataclasses import dataclass
from typing import Any, Final

import torch

from model.batch import Batch
from model.config import Dtype
from model.linear import PANEL, Kind, Weight, empty_scales

_BITS: Final = {Kind.FP32: 32, Kind.BF16: 16, Kind.INT8: 8, Kind.INT4: 4}


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer: [blocks, K, bytes of 16 tokens], in the kernels' layout."""

    kind: Kind
    keys: torch.Tensor
    values: torch.Tensor
    kv_heads: int
    head_dim: int


class NativeOps:
    """See `model.ops.Ops`. Tensors are on CPU and contiguous."""

    def __init__(self, library: Any, threads: int) -> None:
        self._library = library
        self._threads = threads

    def empty(self, kind: Kind, rows: int, width: int, reduced: bool = False) -> Weight:
        """Memory only; pages are touched as they are filled."""
        if rows % PANEL or width % 32:
            raise ValueError(f"a weight of {rows} x {width} cannot be packed; multiples of {PANEL} and 32 can")
        data = torch.empty(rows * width * _BITS[kind] // 8, dtype=torch.uint8)
        return Weight(kind, rows, width, data, empty_scales(kind, rows, width), reduced)

    def fill(self, weight: Weight, first_row: int, part: torch.Tensor) -> None:
        """Pack and, if that is the kind, quantize rows [n, width]."""
        part = part.to(torch.float32).contiguous()
        at = weight.data.data_ptr() + first_row * weight.width * _BITS[weight.kind] // 8
        scale_items = first_row * (weight.width // 32 if weight.kind is Kind.INT4 else 1)
        scales = weight.scales.data_ptr() + scale_items * weight.scales.element_size()
        self._library.gemmule_pack(weight.kind, part.data_ptr(), at, scales, len(part), weight.width, self._threads)

    def cache(self, blocks: int, kv_heads: int, head_dim: int, dtype: Dtype) -> Cache:
        """Zeroed: what was never written is multiplied by a weight of zero, and must not be a NaN."""
        kind = Kind[dtype.name]
        size = (blocks, kv_heads, PANEL * head_dim * _BITS[kind] // 8)
        return Cache(
            kind, torch.zeros(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8), kv_heads, head_dim
        )

    def embed(self, ids: torch.Tensor, weight: Weight, normaliser: float) -> torch.Tensor:
        """Looked up in the packed head; ids [T] int64."""
        out = torch.empty(len(ids), weight.width)
        self._library.gemmule_embed(
            ids.data_ptr(), weight.kind, weight.data.data_ptr(), weight.scales.data_ptr(), out.data_ptr(), len(ids),
            weight.width, normaliser, self._threads,
        )  # fmt: skip
        return out

    def linear(self, x: torch.Tensor, weight: Weight) -> torch.Tensor:
        """Each output is one chain of multiply-adds, whatever the number of rows."""
        out = torch.empty(len(x), weight.rows)
        self._library.gemmule_linear(
            weight.kind, x.data_ptr(), weight.data.data_ptr(), weight.scales.data_ptr(), out.data_ptr(), len(x),
            weight.width, weight.rows, self._threads,
        )  # fmt: skip
        return out

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """A new tensor."""
        out = torch.empty_like(x)
        self._norm(x, weight, out, eps, add=False)
        return out

    def add_norm(self, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> None:
        """In place, in the residual."""
        self._norm(x, weight, residual, eps, add=True)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, eps: float, add: bool) -> None:
        self._library.gemmule_rms_norm(
            x.data_ptr(), weight.data_ptr(), out.data_ptr(), *x.shape, eps, add, self._threads
        )

    def geglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """In place, in the gate."""
        self._library.gemmule_geglu(gate.data_ptr(), up.data_ptr(), *gate.shape, self._threads)
        return gate

    def soft_cap(self, x: torch.Tensor, cap: float) -> torch.Tensor:
        """In place."""
        self._library.gemmule_soft_cap(x.data_ptr(), x.numel(), cap, self._threads)
        return x

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor],
        cache: Cache, batch: Batch, window: int, scale: float, cap: float,
    ) -> torch.Tensor:  # fmt: skip
        """Q is rotated in place."""
        table = batch.window_table if window else batch.global_table
        out = torch.empty_like(q)
        heads = (q.shape[1] // cache.head_dim, cache.kv_heads, cache.head_dim)
        where = (batch.starts.ctypes.data, batch.positions.ctypes.data, table.ctypes.data, *table.shape, *heads)
        self._library.gemmule_store_kv(
            cache.kind, q.data_ptr(), k.data_ptr(), v.data_ptr(), rotation[0].data_ptr(), rotation[1].data_ptr(),
            cache.keys.data_ptr(), cache.values.data_ptr(), *where, self._threads,
        )  # fmt: skip
        self._library.gemmule_attend(
            cache.kind, q.data_ptr(), cache.keys.data_ptr(), cache.values.data_ptr(), out.data_ptr(), *where,
            scale, cap, window, self._threads,
        )  # fmt: skip
        return out
