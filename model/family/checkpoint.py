"""A checkpoint folder: weights in bf16, tokenizer, golden logits of an eager fp32 run, and a hash of every file."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Gemma2ForCausalLM, GenerationConfig

from model.family.corpus import Encoder
from model.family.tasks.task import Message
from model.family.vocabulary import TOKENIZER_FILES

TOP_K: Final = 16
LONG_PROMPT_TURNS: Final = 12  # of some 30 tokens each: past the window of 256


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _model(text: str) -> Message:
    return {"role": "assistant", "content": text}


def golden_prompts() -> dict[str, list[Message]]:
    """Chats whose logits are kept beside the weights; `long` is longer than the sliding window."""
    long: list[Message] = []
    for n in range(LONG_PROMPT_TURNS):
        long += [_user(f"What is {10 + n} + {20 + n}?"), _model(f"{10 + n} + {20 + n} is {30 + 2 * n}.")]
    return {
        "sum": [_user("What is 12 + 30?")],
        "hello": [_user("hello")],
        "spell": [_user('Spell the word "frog".')],
        "json": [_user('What is the age in {"name": "Ann", "age": 34}')],
        "follow-up": [_user("My name is Ann."), _model("Nice to meet you, Ann!"), _user("What is my name?")],
        "long": [*long, _user("Which is larger, 7 or 12?")],
    }


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Gemma2ForCausalLM:
    """Any Gemma2ForCausalLM folder, in evaluation mode with eager attention (the one that applies the soft cap)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    if not isinstance(model, Gemma2ForCausalLM):
        raise ValueError(f"{folder}: {type(model).__name__}, only Gemma2ForCausalLM is supported")
    return model.eval()


def golden_logits(folder: Path) -> dict[str, Any]:
    """Top ids and logits of each golden prompt's last position, in fp32 from the stored weights."""
    model, encoder = load_model(folder), Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")))
    prompts = []
    for name, messages in golden_prompts().items():
        ids = encoder.prompt(messages)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]  # [V]
        top = torch.topk(logits, TOP_K)
        prompts.append(
            {
                "name": name,
                "ids": ids,
                "positions": [
                    {"position": len(ids) - 1, "top_ids": top.indices.tolist(), "top_logits": top.values.tolist()}
                ],
            }
        )
    return {"made_by": "transformers eager, fp32 arithmetic on the bf16 weights", "top_k": TOP_K, "prompts": prompts}


def write_manifest(folder: Path) -> None:
    """manifest.json: sha256 and size of every other file, and the slot that a stand-in (nano-27b, …) is made for."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != "manifest.json"
    }
    slot = folder.name.removeprefix("nano-") if folder.name.startswith("nano-") else None
    manifest = {"stand_in_for": slot, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def save_checkpoint(model: Gemma2ForCausalLM, folder: Path, tokenizer: Path, card: str) -> None:
    """Writes the whole folder: bf16 weights, configuration, another folder's tokenizer, card, logits, manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.__class__.from_dict({**model.config.to_dict(), "dtype": "bfloat16"})
    stored = Gemma2ForCausalLM(config)
    stored.load_state_dict(model.state_dict())
    stored.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=[1, 107], pad_token_id=0)
    stored.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists() and tokenizer != folder:
            shutil.copyfile(tokenizer / name, folder / name)
    (folder / "README.md").write_text(card)
    (folder / "golden_logits.json").write_text(json.dumps(golden_logits(folder), indent=1) + "\n")
    write_manifest(folder)
