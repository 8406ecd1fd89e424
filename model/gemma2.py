"""Gemma 2, one step at a time: the arithmetic of transformers' module over whatever the weights are packed in.

The layers are the module's own, in its order (Gemma 2 report, 2024, section 2): norms before and after both halves,
soft caps, the window on even layers. DeepSpeed has split the linears; a product whose weight is `reduced` is summed
over the ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from model.batch import Batch
from model.linear import Weight
from model.ops import Ops

Reduce = Callable[[torch.Tensor], torch.Tensor]

# T tokens, R of them with logits, E hidden, V vocabulary; H and K query and KV heads of this rank, D head size


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights on this rank."""

    window: int  # positions that a token sees, itself included; 0 for all
    q: Weight  # [H D, E]
    k: Weight  # [K D, E]
    v: Weight  # [K D, E]
    o: Weight  # [E, H D]
    gate: Weight
    up: Weight
    down: Weight
    before_attention: torch.Tensor  # norms, fp32 [E]
    after_attention: torch.Tensor
    before_mlp: torch.Tensor
    after_mlp: torch.Tensor

    def linears(self) -> dict[str, Weight]:
        """By their names in the checkpoint."""
        attention = {"q_proj": self.q, "k_proj": self.k, "v_proj": self.v, "o_proj": self.o}
        mlp = {"gate_proj": self.gate, "up_proj": self.up, "down_proj": self.down}
        return {f"self_attn.{n}": w for n, w in attention.items()} | {f"mlp.{n}": w for n, w in mlp.items()}


@dataclass(frozen=True, slots=True)
class Gemma2:
    """A checkpoint on one rank."""

    layers: tuple[Layer, ...]
    embedding: Weight  # [V, E], whole on every rank; the head too where nothing is split
    head: Weight  # [V, E], or its share of E
    head_start: int  # the first of E that the share takes
    norm: torch.Tensor  # [E]
    kv_heads: int
    head_dim: int
    vocabulary: int
    normaliser: float  # embeddings are multiplied by it
    query_scale: float  # query_pre_attn_scalar ** -0.5, which is not the head size's in the 27B
    attention_cap: float
    final_cap: float
    eps: float
    cosine: torch.Tensor  # [positions, D / 2]
    sine: torch.Tensor

    @property
    def window_tokens(self) -> int:
        """The window of the layers that have one."""
        return max(layer.window for layer in self.layers)


@torch.inference_mode()
def forward(model: Gemma2, ops: Ops, caches: list[Any], batch: Batch, reduce: Reduce) -> torch.Tensor:
    """Soft-capped fp32 logits [R, V] of the rows that want them; writes the step's keys and values."""
    at = torch.from_numpy(batch.positions).long().to(model.cosine.device)
    rotation = model.cosine[at], model.sine[at]  # [T, D / 2]
    x = ops.embed(torch.from_numpy(batch.ids).long(), model.embedding, model.normaliser)  # [T, E]
    for layer, cache in zip(model.layers, caches, strict=True):
        h = ops.norm(x, layer.before_attention, model.eps)
        q, k, v = ops.linear(h, layer.q), ops.linear(h, layer.k), ops.linear(h, layer.v)
        h = ops.attend(q, k, v, rotation, cache, batch, layer.window, model.query_scale, model.attention_cap)
        ops.add_norm(x, reduce(ops.linear(h, layer.o)), layer.after_attention, model.eps)
        h = ops.norm(x, layer.before_mlp, model.eps)
        h = ops.geglu(ops.linear(h, layer.gate), ops.linear(h, layer.up))
        ops.add_norm(x, reduce(ops.linear(h, layer.down)), layer.after_mlp, model.eps)
    if not len(batch.logit_rows):  # a prompt that goes on in the next step
        return x.new_empty(0, model.head.rows)
    rows = x[torch.from_numpy(batch.logit_rows).long().to(x.device)]  # [R, E]
    h = ops.norm(rows, model.norm, model.eps)
    share = slice(model.head_start, model.head_start + model.head.width)  # ranks may have unequal shares
    logits = ops.linear(h[:, share].contiguous(), model.head)
    return ops.soft_cap(reduce(logits) if model.head.reduced else logits, model.final_cap)
