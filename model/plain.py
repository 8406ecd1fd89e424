"""The operations of a step in plain torch: where there is no compiler, and on a GPU."""

from dataclasses import dataclass
from typing import Final

import torch
from torch.nn.functional import gelu, linear, softmax

from model.batch import Batch
from model.config import Dtype
from model.linear import GROUP, PANEL, Kind, Weight

_DTYPES: Final = {Kind.FP32: torch.float32, Kind.BF16: torch.bfloat16, Kind.INT8: torch.int8, Kind.INT4: torch.uint8}
_DENSE_NUMBERS: Final = 2**25
"""Numbers of a quantized weight that are fp32 at a time: 128 MiB, where the 27B's whole head would be 4.7 GB."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer: [blocks, 16, K, D] each."""

    keys: torch.Tensor
    values: torch.Tensor


class PlainOps:
    """See `model.ops.Ops`. Weights lie row by row; int4 as two nibbles a byte, scales [rows, width / 32]."""

    def __init__(self, device: str = "cpu", dense_numbers: int = _DENSE_NUMBERS) -> None:
        self._device = device
        self._dense_numbers = dense_numbers

    def empty(self, kind: Kind, rows: int, width: int, reduced: bool = False) -> Weight:
        """Memory only."""
        columns = width // 2 if kind is Kind.INT4 else width
        data = torch.empty(rows, columns, dtype=_DTYPES[kind], device=self._device)
        groups = {Kind.INT8: 1, Kind.INT4: width // GROUP}.get(kind, 0)
        scale_type = torch.bfloat16 if kind is Kind.INT4 else torch.float32
        scales = torch.empty(rows, groups, dtype=scale_type, device=self._device)
        return Weight(kind, rows, width, data, scales, reduced)

    def fill(self, weight: Weight, first_row: int, part: torch.Tensor) -> None:
        """Store and, if that is the kind, quantize rows [n, width]."""
        rows = slice(first_row, first_row + len(part))
        part = part.to(self._device)
        if weight.kind is Kind.INT8:
            part = part.float()
            scale = part.abs().amax(1, keepdim=True) / 127  # [n, 1]
            weight.scales[rows] = scale
            weight.data[rows] = (part / scale.clamp_min(1e-30)).round().to(torch.int8)
        elif weight.kind is Kind.INT4:
            groups = part.float().view(len(part), -1, GROUP)  # [n, width / 32, 32]
            extreme = groups.gather(2, groups.abs().argmax(2, keepdim=True))
            scale = (extreme / -8).bfloat16().float()  # the extreme value becomes -8: all sixteen steps are used
            steps = (
                (groups / torch.where(scale == 0, 1.0, scale)).round().add(8).clamp(0, 15).to(torch.uint8).flatten(1)
            )
            weight.scales[rows] = scale.squeeze(2)
            weight.data[rows] = steps[:, ::2] | steps[:, 1::2] << 4
        else:
            weight.data[rows] = part.to(weight.data.dtype)

    def _dense(self, weight: Weight, rows: torch.Tensor | slice) -> torch.Tensor:
        """Rows as numbers to compute with: [n, width]."""
        data = weight.data[rows]
        if weight.kind is Kind.INT8:
            dense: torch.Tensor = data.float() * weight.scales[rows]
            return dense
        if weight.kind is Kind.INT4:
            steps = torch.stack([data & 15, data >> 4], -1).flatten(1).float() - 8
            return (steps.view(len(data), -1, GROUP) * weight.scales[rows].unsqueeze(2)).flatten(1)
        return data

    def cache(self, blocks: int, kv_heads: int, head_dim: int, dtype: Dtype) -> Cache:
        """Zeroed."""
        size = (blocks, PANEL, kv_heads, head_dim)
        kind = _DTYPES[Kind[dtype.name]]
        return Cache(*(torch.zeros(size, dtype=kind, device=self._device) for _ in range(2)))

    def embed(self, ids: torch.Tensor, weight: Weight, normaliser: float) -> torch.Tensor:
        """fp32 [T, E]."""
        return self._dense(weight, ids.to(self._device)).float() * normaliser

    def linear(self, x: torch.Tensor, weight: Weight) -> torch.Tensor:
        """Computed in the weight's own floating type; of a quantized one, which becomes fp32, a few rows at a time."""
        if weight.kind in (Kind.FP32, Kind.BF16):
            return linear(x.to(weight.data.dtype), weight.data).float()
        out = x.new_empty(len(x), weight.rows)
        step = max(1, self._dense_numbers // weight.width)
        for start in range(0, weight.rows, step):
            rows = slice(start, start + step)
            out[:, rows] = linear(x, self._dense(weight, rows))
        return out

    def norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """A new tensor."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1 + weight)

    def add_norm(self, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> None:
        """In place, in the residual."""
        residual += self.norm(x, weight, eps)

    def geglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """A new tensor."""
        return gelu(gate, approximate="tanh") * up

    def soft_cap(self, x: torch.Tensor, cap: float) -> torch.Tensor:
        """A new tensor."""
        return torch.tanh(x / cap) * cap

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor],
        cache: Cache, batch: Batch, window: int, scale: float, cap: float,
    ) -> torch.Tensor:  # fmt: skip
        """Sequence by sequence, each over its own blocks."""
        head_dim = cache.keys.shape[3]
        query, key, value = (x.view(len(x), -1, head_dim) for x in (q, k, v))  # [T, heads, D]
        query, key = _rotate(query, *rotation), _rotate(key, *rotation)
        table = torch.from_numpy(batch.window_table if window else batch.global_table).to(self._device).long()
        out = torch.empty_like(query)
        for index, (start, end) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
            first, last = int(batch.positions[start]), int(batch.positions[end - 1])
            at = torch.arange(first, last + 1, device=self._device)  # [t]
            blocks = table[index, at // PANEL]
            cache.keys[blocks, at % PANEL] = key[start:end].to(cache.keys.dtype)
            cache.values[blocks, at % PANEL] = value[start:end].to(cache.values.dtype)
            low = max(0, first - window + 1) // PANEL if window else 0
            held = table[index, low : last // PANEL + 1]  # [b]
            seen = torch.arange(low * PANEL, low * PANEL + len(held) * PANEL, device=self._device)
            mask = seen[None, :] <= at[:, None]  # [t, 16 b]
            if window:
                mask &= seen[None, :] > at[:, None] - window
            keys, values = (x[held].flatten(0, 1).float() for x in (cache.keys, cache.values))  # [16 b, K, D]
            out[start:end] = _attend(query[start:end], keys, values, mask, scale, cap)
        return out.flatten(1)


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """RoPE on [T, heads, D] with the halves that transformers pairs; cosines and sines [T, D / 2]."""
    a, b = x.chunk(2, -1)
    c, s = cosine[:, None, :], sine[:, None, :]
    return torch.cat([a * c - b * s, b * c + a * s], -1)


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scale: float, cap: float
) -> torch.Tensor:
    """For q [t, H, D], k and v [s, K, D], mask [t, s]: the queries of a KV head go together, keys are not repeated."""
    grouped = q.view(len(q), k.shape[1], -1, q.shape[2])  # [t, K, G, D]
    scores = torch.einsum("tkgd,skd->kgts", grouped, k) * scale
    if cap:
        scores = torch.tanh(scores / cap) * cap
    weights = softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return torch.einsum("kgts,skd->tkgd", weights, v).flatten(1, 2)
