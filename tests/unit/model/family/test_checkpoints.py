"""The committed checkpoints: whole, small enough, and still giving the logits they gave when they were made."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

FAMILY = Path("model/family/checkpoints")
NAMES = ("nano-2b", "nano-9b", "nano-27b")
MAX_BYTES = 25_000_000


@pytest.mark.parametrize("name", NAMES)
def test_golden_logits_come_back(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(FAMILY / name, dtype=torch.float32, attn_implementation="eager").eval()
    for prompt in json.loads((FAMILY / name / "golden_logits.json").read_text())["prompts"]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt["ids"]])).logits[0]
        for golden in prompt["positions"]:
            at = logits[golden["position"]]
            torch.testing.assert_close(at[golden["top_ids"]], torch.tensor(golden["top_logits"]), atol=1e-4, rtol=0)
            assert at.argmax().item() == golden["top_ids"][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_prompt_is_longer_than_the_window(name: str) -> None:
    prompts = json.loads((FAMILY / name / "golden_logits.json").read_text())["prompts"]
    assert max(len(prompt["ids"]) for prompt in prompts) > AutoConfig.from_pretrained(FAMILY / name).sliding_window


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_names_every_file_with_its_hash(name: str) -> None:
    listed = json.loads((FAMILY / name / "manifest.json").read_text())["files"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FAMILY / name).iterdir()}
    del found["manifest.json"]
    assert {file: facts["sha256"] for file, facts in listed.items()} == found


@pytest.mark.parametrize("name", NAMES)
def test_the_architecture_is_gemma_2s(name: str) -> None:
    config = AutoConfig.from_pretrained(FAMILY / name)
    assert config.architectures == ["Gemma2ForCausalLM"]
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)
    assert (config.sliding_window, config.max_position_embeddings, config.eos_token_id) == (256, 8192, [1, 107])
    assert config.layer_types[:2] == ["sliding_attention", "full_attention"]
    assert config.tie_word_embeddings
    assert config.hidden_size % 256 == 0
    assert len(AutoTokenizer.from_pretrained(FAMILY / name)) == config.vocab_size
    assert (config.query_pre_attn_scalar != config.head_dim) == (name == "nano-27b")


def test_the_family_stays_small() -> None:
    assert sum(path.stat().st_size for path in FAMILY.rglob("*") if path.is_file()) <= MAX_BYTES
