"""The real sizes on paper and on the meta device, and the paper against DeepSpeed itself."""

import json
import os
import socket
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
from transformers import Gemma2Config

from model.checkpoint import shape_of, tensor_shapes
from model.config import CONTEXT_TOKENS, SIZES, Dtype, EngineConfig, Size
from model.errors import CheckpointError
from model.memory import degrees, estimate, split_dimension
from model.shapes import count, meta_model, model_shape, real_config, shard_shapes
from model.source import EMBEDDED_FOLDER

TOTALS = {Size.B2: 2_614_341_888, Size.B9: 9_241_705_984, Size.B27: 27_227_128_320}
NANO = EMBEDDED_FOLDER / "nano-27b"


@pytest.mark.parametrize("size", Size)
def test_the_meta_model_has_exactly_the_published_parameters(size: Size) -> None:
    model = meta_model(real_config(size))
    assert sum(parameter.numel() for parameter in model.parameters()) == TOTALS[size]
    assert all(parameter.is_meta for parameter in model.parameters())
    assert round(TOTALS[size] / 1e9, 2) == SIZES[size].parameters_e9


@pytest.mark.parametrize("size", Size)
def test_the_checkpoint_rule_names_the_same_tensors_as_transformers(size: Size) -> None:
    named = {name: tuple(parameter.shape) for name, parameter in meta_model(real_config(size)).named_parameters()}
    assert tensor_shapes(shape_of(size)) == named
    assert count(named) == TOTALS[size]


@pytest.mark.parametrize("size", Size)
def test_a_real_configuration_is_gemma_2s(size: Size) -> None:
    config = real_config(size)
    assert (config.vocab_size, config.max_position_embeddings, config.sliding_window) == (256_000, 8192, 4096)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)
    assert config.query_pre_attn_scalar == (144 if size is Size.B27 else 256)
    assert config.tie_word_embeddings
    assert config.layer_types[:2] == ["sliding_attention", "full_attention"]
    assert config.rope_parameters["rope_theta"] == 10_000
    assert model_shape(config) == shape_of(size)


EVERY_DEGREE = [(size, degree) for size, degree in product(Size, (1, 2, 4, 8, 16)) if degree <= SIZES[size].max_degree]


@pytest.mark.parametrize(("size", "degree"), EVERY_DEGREE)
def test_the_ranks_together_hold_the_model_and_what_is_whole_on_each(size: Size, degree: int) -> None:
    config = real_config(size)
    ranks = [shard_shapes(config, degree, rank) for rank in range(degree)]
    whole = count({name: part for name, part in ranks[0].items() if split_dimension(name) is None})
    head = config.vocab_size * config.hidden_size if degree > 1 else 0  # no longer the embedding itself
    assert sum(map(count, ranks)) == TOTALS[size] + (degree - 1) * whole + head
    need = estimate(shape_of(size), degree, EngineConfig(dtype=Dtype.BF16)).weight_bytes
    norms = count({name: part for name, part in ranks[0].items() if len(part) == 1})
    assert need == 2 * count(ranks[0]) + 2 * norms + 4 * CONTEXT_TOKENS * config.head_dim  # both fp32; the last: RoPE


@pytest.mark.parametrize(("size", "degree"), EVERY_DEGREE)
def test_no_rank_cuts_a_head(size: Size, degree: int) -> None:
    config, facts = real_config(size), SIZES[size]
    part = shard_shapes(config, degree)
    layer = "model.layers.0.self_attn."
    assert part[layer + "q_proj.weight"][0] == facts.attention_heads // degree * facts.head_dim
    assert part[layer + "k_proj.weight"] == part[layer + "v_proj.weight"]
    assert part[layer + "k_proj.weight"][0] == facts.kv_heads // degree * facts.head_dim
    assert part[layer + "o_proj.weight"] == (facts.hidden, part[layer + "q_proj.weight"][0])


@pytest.mark.parametrize("size", Size)
def test_beyond_the_kv_heads_a_degree_is_refused(size: Size) -> None:
    assert max(degrees(shape_of(size))) == SIZES[size].max_degree
    with pytest.raises(CheckpointError, match="KV heads; choose one of"):
        shard_shapes(real_config(size), 2 * SIZES[size].max_degree)


def test_the_27bs_head_at_degree_16_is_uneven_as_deepspeed_makes_it() -> None:
    widths = [shard_shapes(real_config(Size.B27), 16, rank)["lm_head.weight"][1] for rank in range(16)]
    assert widths == [320] * 8 + [256] * 8  # 4608 are 72 grains of 64


@pytest.mark.e2e  # no service, but two processes that import DeepSpeed: some 14 s of CPU
def test_deepspeed_splits_the_stand_in_as_the_paper_says() -> None:
    expected = shard_shapes(Gemma2Config.from_pretrained(NANO), 2)
    vocabulary = expected["model.embed_tokens.weight"][0]
    reports = reports_of_two_ranks()
    for rank, report in enumerate(reports):
        shapes = {name: tuple(shape) for name, shape in report["shapes"].items()}
        paper = shard_shapes(Gemma2Config.from_pretrained(NANO), 2, rank)
        assert shapes == {name: paper[name] for name in shapes}
        assert shapes["lm_head.weight"] == (vocabulary, 128)
        assert report["weight_bytes"] == 2 * count(paper)
    layer = "model.layers.0."
    assert expected[layer + "self_attn.q_proj.weight"] == (128, 256)
    assert expected[layer + "self_attn.o_proj.weight"] == (256, 128)
    assert expected[layer + "mlp.gate_proj.weight"] == (384, 256)
    assert expected[layer + "mlp.down_proj.weight"] == (256, 384)


RANK = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from model import shard
from model.config import Dtype
from model.weights import load
from model.world import World
world = World(int(sys.argv[1]), 2, master_port=int(sys.argv[2]))
shard.join(world)
report = shard.report(load(Path(sys.argv[3]), Dtype.BF16, world), world)
print("REPORT" + json.dumps({"weight_bytes": report.weight_bytes, "shapes": report.shard_shapes}), flush=True)
torch.distributed.barrier()
"""


def reports_of_two_ranks() -> list[dict[str, Any]]:
    """What the real thing makes of it: two processes, gloo, AutoTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EMBEDDED_FOLDER.parents[2])}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), port, str(NANO)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=150) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    lines = [next(line for line in out.splitlines() if line.startswith("REPORT")) for out, _ in outputs]
    return [json.loads(line.removeprefix("REPORT")) for line in lines]
