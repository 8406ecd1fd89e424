"""The shapes that can be measured: the real sizes, and a tiny one for tests."""

from typing import Any, Final

from model.checkpoint import ModelShape, shape_of
from model.config import CONTEXT_TOKENS, EOS_ID, SIZES, SLIDING_WINDOW_TOKENS, Size

TINY: Final = "tiny"
SHAPES: Final = (TINY, *(str(size) for size in Size))
_TINY_SHAPE: Final = ModelShape(
    layers=4, hidden=256, intermediate=512, attention_heads=4, kv_heads=2, head_dim=64, vocabulary=4096
)


def model_shape(name: str) -> ModelShape:
    """The shape of a name in `SHAPES`."""
    return _TINY_SHAPE if name == TINY else shape_of(Size(name))


def hf_config(name: str) -> dict[str, Any]:
    """The config.json of a checkpoint of this shape, as released (google/gemma-2-*, 2024)."""
    shape = model_shape(name)
    scalar = shape.head_dim if name == TINY else SIZES[Size(name)].query_pre_attn_scalar
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention_heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "query_pre_attn_scalar": scalar,
        "max_position_embeddings": CONTEXT_TOKENS,
        "sliding_window": SLIDING_WINDOW_TOKENS,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_cache": True,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": EOS_ID,
        "torch_dtype": "bfloat16",
    }
