"""A checkpoint folder to a model: everything filled, nothing else, and what is tied stays tied."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM

from model.config import Dtype
from model.errors import CheckpointError
from model.weights import load
from model.world import World

CONFIG = Gemma2Config(
    vocab_size=512,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=32,
    query_pre_attn_scalar=40,
    sliding_window=16,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Gemma2ForCausalLM(CONFIG).to(torch.bfloat16).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, drop: str = "", add: dict[str, Any] | None = None) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items() if name != drop}
    save_file({**tensors, **(add or {})}, path)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(3, 43)[None]).logits
        return found


@pytest.mark.parametrize("dtype", list(Dtype))
def test_the_model_is_the_librarys_in_every_bit(folder: Path, dtype: Dtype) -> None:
    """Buffers that are computed and not stored included: rotary frequencies, and the embedding's scale."""
    ours = load(folder, dtype, World())
    torch_dtype = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16}[dtype]
    oracle = Gemma2ForCausalLM.from_pretrained(folder, dtype=torch_dtype, attn_implementation="eager")
    assert torch.equal(logits(ours), logits(oracle))
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in oracle.named_parameters()}
    expected = dict(oracle.named_buffers())
    for name, buffer in ours.named_buffers():
        assert torch.equal(buffer.float(), expected[name].float()), name


def test_the_head_stays_tied_to_the_embedding(folder: Path) -> None:
    model = load(folder, Dtype.FP32, World())
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.3.mlp.down_proj.weight"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    rewrite(folder, drop=name)
    with pytest.raises(CheckpointError, match=name):
        load(folder, Dtype.FP32, World())


def test_a_tensor_without_a_place_is_named(folder: Path) -> None:
    rewrite(folder, add={"model.layers.4.mlp.up_proj.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"model.layers.4.mlp.up_proj.weight"):
        load(folder, Dtype.FP32, World())


def test_one_rank_never_imports_deepspeed() -> None:
    code = "import sys, model.borrowed; sys.exit('deepspeed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
