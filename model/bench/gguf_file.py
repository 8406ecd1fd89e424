"""`python -m model.bench.gguf_file FOLDER FILE DTYPE`: a checkpoint's tensors as GGUF. Runs in llama.cpp's environment.

The same as llama.cpp's own converter makes of Gemma 2: norm weights plus 1 in fp32, queries and keys in their order,
the head tied. In int8 and int4 every matrix is q8_0 or q4_0, the embedding too: llama.cpp's quantizer would keep that
one at 6 bits in a 4-bit file, which reads more and so is slower; the faster one is what we compare with.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from model.bench.gguf_names import gguf_name

KINDS: Final = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
_CHUNK_ROWS: Final = 8192  # rows quantized at once


def write(folder: Path, file: Path, dtype: str) -> None:
    """Write the file beside itself and move it into place when it is whole."""
    kind = gguf.GGMLQuantizationType[KINDS[dtype]]
    config = json.loads((folder / "config.json").read_text())
    part = file.with_name(f"{file.name}.part")
    writer = gguf.GGUFWriter(part, "gemma2")
    _describe(writer, config, kind)
    _vocabulary(writer, config["vocab_size"])
    stored = dict(_tensors(folder))
    for name, bits in stored.items():
        _announce(writer, gguf_name(name), bits, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for bits in stored.values():
        writer.write_tensor_data(_converted(bits, kind))
    writer.close()
    part.rename(file)


def _describe(writer: Any, config: dict[str, Any], kind: Any) -> None:
    """The metadata that its Gemma 2 loader reads."""
    writer.add_name("random weights")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.name}"])


def _vocabulary(writer: Any, size: int) -> None:
    """A tokenizer that is never used; prompts are token ids."""
    byte, control = gguf.TokenType.BYTE, gguf.TokenType.CONTROL
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{number:02X}>" for number in range(256))]
    types = [control, control, control, gguf.TokenType.UNKNOWN, *[byte] * 256]
    tokens += [f"w{number}" for number in range(len(tokens), size)]
    types += [gguf.TokenType.NORMAL] * (size - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(size)])
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)


def _tensors(folder: Path) -> Any:
    """Name and bits, uint16, mapped from the file and not read."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start, shape = 8 + length + entry["data_offsets"][0], tuple(entry["shape"])
                yield name, np.memmap(path, np.uint16, "r", start, shape)


def _announce(writer: Any, name: str, bits: Any, kind: Any) -> None:
    if bits.ndim == 1:
        writer.add_tensor_info(name, bits.shape, np.dtype(np.float32), bits.size * 4)
        return
    shape = gguf.quant_shape_to_byte_shape(bits.shape, kind)
    size = int(np.prod(shape, dtype=np.int64))
    writer.add_tensor_info(name, shape, np.dtype(np.uint8), size, raw_dtype=kind)


def _converted(bits: Any, kind: Any) -> Any:
    if bits.ndim == 1:
        return _widened(bits) + np.float32(1.0)
    if kind == gguf.GGMLQuantizationType.BF16:
        return np.asarray(bits).view(np.uint8)
    rows = range(0, bits.shape[0], _CHUNK_ROWS)
    return np.concatenate([gguf.quantize(_widened(bits[row : row + _CHUNK_ROWS]), kind) for row in rows])


def _widened(bits: Any) -> Any:
    """bf16 bits as fp32."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
