"""A checkpoint to one rank's packed weights: DeepSpeed says who holds what, and each part is read straight into place.

transformers' module is built on the meta device and DeepSpeed's AutoTP splits it there, so its shapes say what this
rank holds and its classes which products are summed. Then every part is read, converted and packed a few rows at a
time: nothing larger than the packed weights is ever in memory, whatever the precision.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
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

# Numbers and rows that are read, converted and packed at a time; rows are a multiple of the panel.
_PART_NUMBERS: Final = 1 << 19
_PART_ROWS: Final = 64
_ROTATION_TOKENS: Final = 512  # computed at a time
_EMBEDDING: Final = "model.embed_tokens.weight"
_HEAD: Final = "lm_head.weight"
_ADVICE: Final = "download the checkpoint again"
Split = Callable[[nn.Module, World, torch.dtype], nn.Module]


@dataclass(frozen=True, slots=True)
class Loader:
    """One rank's loading; `device` is where norms and tables go, packed weights go where `ops` keeps them.

    `split` is DeepSpeed's, which needs the ranks to have met; a test without a group brings another.
    """

    config: Gemma2Config
    tensors: Tensors
    ops: Ops
    dtype: Dtype
    quantization: Quantization | None
    world: World
    device: str = "cpu"
    split: Split = shard

    def load(self) -> Gemma2:
        """The model; raises `CheckpointError` when the tensors are not this architecture's."""
        self._check_names()
        self._check_shapes()
        module = self._split_module()
        kind = kind_of(self.dtype, self.quantization)
        head_kind = (
            kind if self.quantization is None else Kind.INT8
        )  # what is shown is chosen by it: never below 8 bits
        layers = tuple(self._layer(index, module, kind) for index in range(self.config.num_hidden_layers))
        embedding = self._weight(_EMBEDDING, head_kind, split=False)
        head, head_start = embedding, 0
        if self.world.sharded:
            head = self._weight(_EMBEDDING, head_kind, split=True, shape_of=_HEAD)
            self._expect(_HEAD, head, module.lm_head)
            head_start = self._part(_HEAD)[1].start
        return Gemma2(
            layers=layers,
            embedding=embedding,
            head=head,
            head_start=head_start,
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
        wanted = set(rank_shapes(model_shape(self.config), 1))
        there = self.tensors.names() - {_HEAD}  # some files hold the tied head twice
        if missing := sorted(wanted - there):
            raise CheckpointError(f"{_first(missing)} missing; {_ADVICE}")
        if extra := sorted(there - wanted):
            raise CheckpointError(f"{_first(extra)} not of this architecture; {_ADVICE}")

    def _check_shapes(self) -> None:
        """A larger matrix could be read without a sign, only wrongly."""
        for name, wanted in rank_shapes(model_shape(self.config), 1).items():
            if (shape := self.tensors.shape(name)) != wanted:
                raise CheckpointError(f"{name} has shape {shape}, the config says {wanted}; {_ADVICE}")

    def _split_module(self) -> Any:
        """Transformers' module, without memory, as DeepSpeed splits it."""
        module = meta_model(self.config).eval()
        return self.split(module, self.world, torch.float32) if self.world.sharded else module

    def _layer(self, index: int, module: Any, kind: Kind) -> Layer:
        name = f"model.layers.{index}"
        ours = module.model.layers[index]

        def linear(part: str) -> Weight:
            weight = self._weight(f"{name}.{part}.weight", kind, split=True)
            self._expect(f"{name}.{part}", weight, ours.get_submodule(part))
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

    @staticmethod
    def _expect(name: str, weight: Weight, theirs: Any) -> None:
        """What was read is what DeepSpeed would hold here."""
        held, shape = (weight.rows, weight.width), tuple(theirs.weight.shape)
        if held != shape:
            raise CheckpointError(f"{name}: DeepSpeed holds {shape} of it here, {held} were read")

    def _weight(self, name: str, kind: Kind, split: bool, shape_of: str | None = None) -> Weight:
        """The rank's part of a matrix, packed while it is read."""
        whole = slice(0, self.tensors.shape(name)[0]), slice(0, self.tensors.shape(name)[1])
        rows, columns = self._part(shape_of or name) if split else whole
        reduced = columns != whole[1]
        weight = self.ops.empty(kind, rows.stop - rows.start, columns.stop - columns.start, reduced)
        step = max(_PART_ROWS, _PART_NUMBERS // weight.width // _PART_ROWS * _PART_ROWS)
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(start + step, rows.stop))
            self.ops.fill(weight, start - rows.start, self.tensors.read(name, part, columns if reduced else None))
        _give_back()
        return weight

    def _part(self, name: str) -> tuple[slice, slice]:
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
        embedding, half = Gemma2RotaryEmbedding(self.config), self.config.head_dim // 2
        cosine, sine = torch.empty(tokens, half), torch.empty(tokens, half)
        for start in range(0, tokens, _ROTATION_TOKENS):
            at = torch.arange(start, min(start + _ROTATION_TOKENS, tokens))
            for table, part in zip((cosine, sine), embedding(torch.empty(1), at[None]), strict=True):
                table[start : start + len(at)] = part[0, :, :half]  # [1, t, D], both halves the same
        return {"cosine": cosine.to(self.device), "sine": sine.to(self.device)}


def _first(names: list[str]) -> str:
    """Three of them, and how many there are."""
    shown = ", ".join(name[:100] for name in names[:3])
    return f"{len(names)} tensors ({shown}{', …' if len(names) > 3 else ''}) are"


def _give_back() -> None:
    """Return what was freed to the system: glibc keeps 4 MB a matrix, in holes that the next one does not fit."""
    with suppress(AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
