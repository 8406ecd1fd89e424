"""A checkpoint folder to a model in memory, each rank keeping its own part only."""

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, Gemma2ForCausalLM
from transformers.models.gemma2.modeling_gemma2 import Gemma2RotaryEmbedding

from model.checkpoint import weight_files
from model.config import Dtype
from model.errors import CheckpointError
from model.shard import shard
from model.world import World

TORCH_DTYPES: Final = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16}


def load(folder: Path, dtype: Dtype, world: World) -> Any:
    """The model of a checkpoint in `dtype`, sharded when the world has more than one rank.

    The modules are built on the meta device and their parameters mapped from the safetensors files, so nothing is read
    before it is kept: DeepSpeed copies this rank's part of each linear, and only the parts are then converted. Raises
    `CheckpointError` when a parameter is not filled or a tensor has no place.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config._attn_implementation = "eager"  # the oracle's; soft-caps are never dropped
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config)
    stored = _map(model, folder)
    _make_buffers(model, config)
    model.eval()
    if world.sharded:
        model = shard(model, world, stored)
        _make_buffers(model, config)  # DeepSpeed rounded the rotary frequencies to the stored dtype
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device=device, dtype=TORCH_DTYPES[dtype], copy=True)
        parameter.requires_grad_(False)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    _check(model, folder)
    return model


def _map(model: nn.Module, folder: Path) -> torch.dtype:
    """Give every parameter its tensor, still in the file; the dtype the file holds."""
    state: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):  # those that were checked, not whatever else lies there
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                state[name] = file.get_tensor(name)  # mapped, not read
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    missing = [name for name in missing if name != "lm_head.weight"]  # tied
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise CheckpointError(f"{folder}: tensors do not match the architecture ({names}, …); download it again")
    model.tie_weights()  # type: ignore[operator]
    return next(iter(state.values())).dtype


def _make_buffers(model: Any, config: Any) -> None:
    """Buffers are computed, not stored, so the meta device left them empty."""
    model.model.rotary_emb = Gemma2RotaryEmbedding(config)
    embedding = model.model.embed_tokens
    embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale)


def _check(model: nn.Module, folder: Path) -> None:
    """Nothing may be left on the meta device."""
    empty = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if empty:
        raise CheckpointError(f"{folder}: {len(empty)} tensors were never filled, first {empty[0]}")
