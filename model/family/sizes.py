"""The shapes of the three stand-ins: Gemma 2's architecture, toy width."""

from typing import Final

from transformers import Gemma2Config

# layers, intermediate, query_pre_attn_scalar. 36 / 32 keeps the real 27B's 144 / 128: a scale that is not the head
# size.
SHAPES: Final = {"nano-27b": (6, 768, 36), "nano-9b": (3, 384, 32), "nano-2b": (2, 192, 32)}


def stand_in_config(name: str, vocab_size: int) -> Gemma2Config:
    """The configuration of one stand-in; hidden size 256 splits into DeepSpeed's grains of 64 at degrees 2 and 4."""
    layers, intermediate, scale = SHAPES[name]
    return Gemma2Config(
        architectures=["Gemma2ForCausalLM"],
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        query_pre_attn_scalar=scale,
        max_position_embeddings=8192,
        sliding_window=256,
        layer_types=["sliding_attention" if index % 2 == 0 else "full_attention" for index in range(layers)],
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=[1, 107],
        dtype="bfloat16",
    )
