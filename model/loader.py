"""A checkpoint to one rank's packed weights: DeepSpeed says who holds what, and each part is read straight into place.

transformers' module is built on the meta device and DeepSpeed's AutoTP splits it there, so its shapes say what this
rank holds and its classes which products are summed. Then every part is read, converted and packed a few rows at a
time: nothing larger than the packed weights is ever in memory, whatever the precision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import Gemma2Config
from transformers.models.gemma2.modeling_gemma2 import Gemma2RotaryEmbedding

from model.config import CONTEXT_TOKENS, Dtype, Quantization
from model.errors import CheckpointError
from model.gemma2 import Gemma2, Layer
from model.linear import Kind, Weight, kind_of
from model.memory import rank_shapes
from model.ops import Ops
from model.shapes import meta_model, model_shape
from model.shard import shard
from model.tensors import Tensors
from model.world import World

_PART_ROWS: Final = 256  # read, converted and packed at a time; a multiple of the panel
_EMBEDDING: Final = "model.embed_tokens.weight"
_HEAD: Final = "lm_head.weight"
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Loader:
    """One rank's loading; `device` is where norms and tables go, packed weights go where `ops` keeps them."""

    config: Gemma2Config
    tensors: Tensors
    ops: Ops
    dtype: Dtype
    quantization: Quantization | None
    world: World
    device: str = "cpu"

    def load(self) -> Gemma2:
        """The model; raises `CheckpointError` when the tensors are not this architecture's."""
        self._check_names()
        module = self._split_module()
        kind = kind_of(self.dtype, self.quantization)
        head_kind = (
            kind if self.quantization is None else Kind.INT8
        )  # what is shown is chosen by it: never below 8 bits
        layers = tuple(self._layer(index, module, kind) for index in range(self.config.num_hidden_layers))
        embedding = self._weight(_EMBEDDING, head_kind, split=False)
        head = self._weight(_EMBEDDING, head_kind, split=True, shape_of=_HEAD) if self.world.sharded else embedding
        return Gemma2(
            layers=layers,
            embedding=embedding,
            head=head,
            norm=self._norm("model.norm"),
            kv_heads=layers[0].k.rows // self.config.head_dim,
            head_dim=self.config.head_dim,
            vocabulary=self.config.vocab_size,
            normaliser=self._normaliser(),
            query_scale=self.config.query_pre_attn_scalar**-0.5,
            attention_cap=self.config.attn_logit_softcapping or 0.0,
            final_cap=self.config.final_logit_softcapping,
            eps=self.config.rms_norm_eps,
            **self._rotation(),
        )

    def _check_names(self) -> None:
        wanted = set(rank_shapes(model_shape(self.config), 1)) - {_HEAD}
        there = self.tensors.names() - {_HEAD}  # some files hold the tied head twice
        if wrong := sorted(wanted ^ there):
            names = ", ".join(wrong[:3])
            raise CheckpointError(f"tensors do not match the architecture ({names}, …); download the checkpoint again")

    def _split_module(self) -> Any:
        """Transformers' module, without memory, as DeepSpeed splits it."""
        module = meta_model(self.config).eval()
        return shard(module, self.world, torch.float32) if self.world.sharded else module

    def _layer(self, index: int, module: Any, kind: Kind) -> Layer:
        name = f"model.layers.{index}"
        ours = module.model.layers[index]

        def linear(part: str) -> Weight:
            theirs = ours.get_submodule(part)
            weight = self._weight(f"{name}.{part}.weight", kind, split=True)
            if (weight.rows, weight.width) != tuple(theirs.weight.shape):
                raise CheckpointError(f"{name}.{part}: DeepSpeed holds {tuple(theirs.weight.shape)} of it here, "
                                      f"{(weight.rows, weight.width)} were read")  # fmt: skip
            return weight

        sliding = self.config.layer_types[index] == "sliding_attention"
        return Layer(
            window=self.config.sliding_window if sliding else 0,
            q=linear("self_attn.q_proj"),
            k=linear("self_attn.k_proj"),
            v=linear("self_attn.v_proj"),
            o=linear("self_attn.o_proj"),
            gate=linear("mlp.gate_proj"),
            up=linear("mlp.up_proj"),
            down=linear("mlp.down_proj"),
            before_attention=self._norm(f"{name}.input_layernorm"),
            after_attention=self._norm(f"{name}.post_attention_layernorm"),
            before_mlp=self._norm(f"{name}.pre_feedforward_layernorm"),
            after_mlp=self._norm(f"{name}.post_feedforward_layernorm"),
        )

    def _weight(self, name: str, kind: Kind, split: bool, shape_of: str | None = None) -> Weight:
        """The rank's part of a matrix, packed while it is read."""
        rows, columns = self._part(shape_of or name) if split else (slice(0, self.tensors.shape(name)[0]), None)
        width = self.tensors.shape(name)[1]
        columns = columns or slice(0, width)
        reduced = columns != slice(0, width)
        weight = self.ops.empty(kind, rows.stop - rows.start, columns.stop - columns.start, reduced)
        for start in range(rows.start, rows.stop, _PART_ROWS):
            part = self.tensors.read(
                name, slice(start, min(start + _PART_ROWS, rows.stop)), columns if reduced else None
            )
            self.ops.fill(weight, start - rows.start, part)
        return weight

    def _part(self, name: str) -> tuple[slice, slice | None]:
        """Rows and columns of a whole matrix that this rank holds: behind those of the ranks before it."""
        shape, world = model_shape(self.config), self.world
        held = [rank_shapes(shape, world.size, rank)[name] for rank in range(world.rank + 1)]
        whole = rank_shapes(shape, 1).get(name, (shape.vocabulary, shape.hidden))
        spans = []
        for dimension in (0, 1):
            mine = held[-1][dimension]
            before = sum(part[dimension] for part in held[:-1]) if mine != whole[dimension] else 0
            spans.append(slice(before, before + mine))
        return spans[0], spans[1]

    def _norm(self, name: str) -> torch.Tensor:
        full = f"{name}.weight"
        return self.tensors.read(full, slice(0, self.tensors.shape(full)[0])).float().contiguous().to(self.device)

    def _normaliser(self) -> float:
        """√hidden in the precision of the weights, as transformers multiplies it (27B: 68, not 67.88)."""
        exact = torch.tensor(self.config.hidden_size**0.5)
        return float(exact if kind_of(self.dtype, self.quantization) is Kind.FP32 else exact.bfloat16())

    def _rotation(self) -> dict[str, torch.Tensor]:
        """Cosines and sines of every position [positions, D / 2], as transformers computes them."""
        tokens = min(CONTEXT_TOKENS, self.config.max_position_embeddings)
        embedding = Gemma2RotaryEmbedding(self.config)
        cosine, sine = embedding(torch.empty(1), torch.arange(tokens)[None])  # [1, positions, D], both halves the same
        half = self.config.head_dim // 2
        return {
            "cosine": cosine[0, :, :half].contiguous().to(self.device),
            "sine": sine[0, :, :half].contiguous().to(self.device),
        }
