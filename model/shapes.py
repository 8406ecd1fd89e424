"""The real 2B, 9B and 27B without their weights: exact configurations, meta models, each rank's part on paper."""

from math import prod

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from model.checkpoint import ModelShape
from model.config import CONTEXT_TOKENS, EOS_ID, SIZES, SLIDING_WINDOW_TOKENS, VOCABULARY, Size
from model.memory import rank_shapes


def real_config(size: Size) -> Gemma2Config:
    """The configuration of a released checkpoint (config.json of google/gemma-2-*, 2024)."""
    facts = SIZES[size]
    return Gemma2Config(
        architectures=["Gemma2ForCausalLM"],
        vocab_size=VOCABULARY,
        hidden_size=facts.hidden,
        intermediate_size=facts.intermediate,
        num_hidden_layers=facts.layers,
        num_attention_heads=facts.attention_heads,
        num_key_value_heads=facts.kv_heads,
        head_dim=facts.head_dim,
        query_pre_attn_scalar=facts.query_pre_attn_scalar,
        max_position_embeddings=CONTEXT_TOKENS,
        sliding_window=SLIDING_WINDOW_TOKENS,
        layer_types=["sliding_attention" if n % 2 == 0 else "full_attention" for n in range(facts.layers)],
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        hidden_activation="gelu_pytorch_tanh",
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=EOS_ID,
        dtype="bfloat16",
    )


def meta_model(config: Gemma2Config) -> Gemma2ForCausalLM:
    """The model with shapes and no memory behind them."""
    with torch.device("meta"):
        return Gemma2ForCausalLM(config)


def shard_shapes(config: Gemma2Config, degree: int, rank: int = 0) -> dict[str, tuple[int, ...]]:
    """Parameter name -> its shape on one rank, as `model.shard` makes it; raises `CheckpointError` on other degrees."""
    return rank_shapes(model_shape(config), degree, rank)


def model_shape(config: Gemma2Config) -> ModelShape:
    """The numbers of a configuration that decide shapes."""
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        attention_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocabulary=config.vocab_size,
    )


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    """Parameters of a set of shapes."""
    return sum(prod(shape) for shape in shapes.values())
