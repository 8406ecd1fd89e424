"""`python -m model.bench.checkpoint SHAPE FOLDER`: random weights of a real shape, in bf16, as a Hugging Face folder.

Rows of the embedding that stand for padding and for a stop are zero. The head is tied to it, so their logits are 0
while the largest of thousands of random ones is well above: greedy answers never stop early, whatever an engine does
about `ignore_eos`.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from model.bench.shapes import hf_config, model_shape
from model.checkpoint import tensor_shapes
from model.config import STOP_IDS

_DEVIATION: Final = 0.02  # transformers' initializer_range
_SHARD_BYTES: Final = 2**30  # held in memory at once, but for a tensor that is larger by itself
_NEVER_IDS: Final = (0, *STOP_IDS)


def write(name: str, folder: Path) -> None:
    """Write the folder beside itself and move it into place when it is whole."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / "config.json").write_text(json.dumps(hf_config(name), indent=2) + "\n")
    ids = {"bos_token_id": 2, "eos_token_id": list(STOP_IDS), "pad_token_id": 0}
    (part / "generation_config.json").write_text(json.dumps(ids) + "\n")
    _write_tokenizer(part, model_shape(name).vocabulary)
    _write_weights(name, part)
    part.rename(folder)


def _write_weights(name: str, folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}
    number, total = 1, 0

    def flush() -> None:
        nonlocal number
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard.clear()
        number += 1

    for tensor_name, shape in tensor_shapes(model_shape(name)).items():
        shard[tensor_name] = _tensor(tensor_name, shape, generator)
        total += shard[tensor_name].nbytes
        if sum(tensor.nbytes for tensor in shard.values()) >= _SHARD_BYTES:
            flush()
    if shard:
        flush()
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index) + "\n")


def _tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Gaussian, norms zero: theirs is `1 + weight`."""
    if len(shape) == 1:
        return torch.zeros(shape, dtype=torch.bfloat16)
    made = torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, _DEVIATION, generator=generator)
    if name == "model.embed_tokens.weight":
        made[[row for row in _NEVER_IDS if row < shape[0]]] = 0.0
    return made


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A word per id: engines that insist on text get some."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"w{number} " for number in range(4, vocabulary))]
    model = {"type": "WordLevel", "vocab": {word: number for number, word in enumerate(names)}, "unk_token": "<unk>"}
    whole: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**kind, "pad_token": "<pad>", "unk_token": "<unk>"}))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
