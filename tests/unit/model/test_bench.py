"""The bench's arithmetic, its order, and what it says about engines that cannot be asked."""

from pathlib import Path
from types import MappingProxyType

import pytest

from model.bench.engines import ENGINES, OURS, PEERS
from model.bench.gguf_names import gguf_name
from model.bench.roof import (
    Machine,
    decode_step,
    head_parameters,
    ideal_s,
    kv_bytes_per_token,
    linear_parameters,
    prefill_flops,
    read_share,
    weight_bytes,
)
from model.bench.rounds import Run, Turn, ratios, row, turns
from model.bench.shapes import SHAPES, hf_config, model_shape
from model.bench.timing import Arrival, Measured, measured, percentile
from model.bench.workload import PRESETS, Workload, preset, prompts, shared_prefix
from model.checkpoint import tensor_shapes

B2 = model_shape("2b")
ZEN4 = Machine(read_bytes_per_s=35e9, flops_per_s=0.33e12)  # engine notes: two cores, AVX-512 BF16


def test_prompts_are_the_same_everywhere_and_have_the_length_asked_for() -> None:
    workload = Workload(concurrency=3, input_tokens=20, seed=5)
    made = prompts(workload, 1000)
    assert made == prompts(workload, 1000)
    assert [len(prompt) for prompt in made] == [20, 20, 20]
    assert len({tuple(prompt) for prompt in made}) == 3
    assert all(prompt[0] == 2 and all(300 <= token < 1000 for token in prompt[1:]) for prompt in made)


def test_only_the_shared_prefix_is_shared() -> None:
    workload = preset("prefix", 4)
    made = prompts(workload, 256_000)
    shared = shared_prefix(workload, 256_000)
    assert len(shared) == 1024
    assert all(prompt[:1024] == shared and len(prompt) == 1088 for prompt in made)
    assert len({prompt[1024] for prompt in made}) == 4


def test_each_round_has_prompts_of_its_own() -> None:
    first, second = (prompts(preset("prefix", 2, n), 256_000) for n in (0, 1))
    assert not {tuple(prompt[:32]) for prompt in first} & {tuple(prompt[:32]) for prompt in second}


@pytest.mark.parametrize("name", PRESETS)
def test_the_tiny_shape_gets_small_workloads(name: str) -> None:
    small = preset(name, 2, tiny=True)
    assert small.context_tokens <= 140
    assert small.shared_prefix_tokens < small.input_tokens


def test_arrivals_become_times_per_request_and_token() -> None:
    came = [[Arrival(1.5, 1), Arrival(2.0, 1), Arrival(4.0, 2)], [Arrival(2.5, 1)]]
    result = measured(1.0, came)
    assert result == Measured(5 / 3, [0.5, 1.5], [0.5, 1.0, 1.0], 3.0, 5)


def test_percentiles_lie_between_neighbours() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0, 5.0], share) for share in (0, 0.5, 0.9, 1)] == [1.0, 3.0, 4.6, 5.0]
    assert percentile([], 0.5) == 0.0


def test_the_roof_counts_the_2b_as_published() -> None:
    assert (linear_parameters(B2) + head_parameters(B2)) / 1e9 == pytest.approx(2.61, abs=0.01)
    assert weight_bytes(B2, "bf16") / 1e9 == pytest.approx(5.23, abs=0.01)
    assert weight_bytes(B2, "int4") * 4 == weight_bytes(B2, "bf16") == weight_bytes(B2, "fp32") / 2
    assert kv_bytes_per_token(B2, "bf16") == 106_496


def test_the_roof_agrees_with_the_estimate_made_by_hand() -> None:
    """About 4.5, 11 and 13 tokens/s at 1, 8 and 32 requests, 7 at 1 in 8 bits; more here, as prompts need no head."""
    rates = {n: n * 32 / ideal_s(B2, "bf16", preset("default", n), ZEN4) for n in (1, 8, 32)}
    assert rates == pytest.approx({1: 5.1, 8: 14.7, 32: 15.4}, rel=0.05)
    assert 32 / ideal_s(B2, "int8", preset("default", 1), ZEN4) == pytest.approx(8.2, rel=0.1)


def test_a_step_is_bound_by_reading_or_by_arithmetic() -> None:
    workload = Workload(1, input_tokens=1, output_tokens=2)
    step = decode_step(B2, "bf16", workload)
    slow_reads, slow_math = Machine(step.num_bytes, 1e30), Machine(1e30, step.flops)
    assert ideal_s(B2, "bf16", workload, slow_reads) == pytest.approx(2.0, rel=1e-3)  # weights once per token
    assert ideal_s(B2, "bf16", workload, slow_math) == pytest.approx(
        1.0 + prefill_flops(B2, workload) / step.flops, rel=1e-9
    )
    assert read_share(step.num_bytes, slow_reads, itl_s=2.0) == pytest.approx(0.5)
    assert read_share(step.num_bytes, slow_reads, itl_s=0.0) == 0.0


def test_a_step_reads_what_an_engine_stores() -> None:
    """Ours keeps the head of a 4-bit model in 8 bits, which is a third more to read; llama.cpp's q4_0 file has 4.5."""
    workload = Workload(1, input_tokens=1, output_tokens=2)
    read = {name: ENGINES[name].step_bytes(B2, "int4", workload) / 1e9 for name in (OURS, "llama.cpp")}
    assert read == pytest.approx({OURS: 1.73, "llama.cpp": 1.47}, abs=0.01)
    assert ENGINES[OURS].step_bytes(B2, "bf16", workload) == decode_step(B2, "bf16", workload).num_bytes


def test_a_cached_prefix_costs_no_linears() -> None:
    whole, cached = Workload(1, 1088), Workload(1, 1088, shared_prefix_tokens=1024)
    assert prefill_flops(B2, cached) < prefill_flops(B2, whole) / 12


def test_engines_take_turns_where_they_fit_side_by_side() -> None:
    assert turns(("a", "b"), (1, 8), 2, together=True)[:4] == [
        Turn(0, "a", 1), Turn(0, "b", 1), Turn(0, "a", 8), Turn(0, "b", 8)
    ]  # fmt: skip
    assert turns(("a", "b"), (1, 8), 2, together=False)[:4] == [
        Turn(0, "a", 1), Turn(0, "a", 8), Turn(0, "b", 1), Turn(0, "b", 8)
    ]  # fmt: skip


def test_a_row_is_the_median_and_the_ratio_is_ours_over_theirs() -> None:
    run, machine = Run("2b", "bf16", "default", 2), Machine(20e9, 1e11, "a processor")
    ours = [Measured(rate, [1.0], [0.5, 0.7], 32 / rate, 32) for rate in (4.0, 2.0, 3.0)]
    theirs = [Measured(1.5, [2.0], [1.0], 20.0, 32)]
    rows = [row(run, machine, OURS, "1", 1, ours), row(run, machine, "vllm", "2", 1, theirs)]
    assert (rows[0].output_tokens_per_s, rows[0].rounds) == (3.0, 3)
    assert rows[0].spread == pytest.approx(2 / 3)
    assert rows[0].itl_p50_s == pytest.approx(0.6)
    assert rows[0].share_of_roof == pytest.approx(ideal_s(B2, "bf16", preset("default", 1), machine) / (32 / 3))
    assert ratios(rows) == {("vllm", 1): 2.0}


def test_a_peer_that_is_not_there_is_named_with_the_cure(tmp_path: Path) -> None:
    refusal = ENGINES["vllm"].refusal("bf16", tmp_path)
    assert refusal == f"vllm is not installed in {tmp_path / 'vllm'}: run `make peers`"
    assert ENGINES["llama.cpp"].refusal("fp32", tmp_path) == (
        "llama.cpp is measured in bf16, int8, int4 and not in fp32, so it is left out"
    )
    assert ENGINES["transformers"].refusal("bf16", tmp_path) is None
    assert PEERS == ("vllm", "llama.cpp", "transformers")
    assert isinstance(ENGINES, MappingProxyType)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tensor_has_a_name_in_llama_cpp(shape: str) -> None:
    names = [gguf_name(name) for name in tensor_shapes(model_shape(shape))]
    assert len(set(names)) == len(names)
    assert {"token_embd.weight", "output_norm.weight", "blk.3.ffn_down.weight"} <= set(names)


def test_the_configuration_is_the_one_that_the_real_sizes_have() -> None:
    from model.config import Size
    from model.shapes import real_config

    real = real_config(Size.B27).to_dict()
    same = [name for name in hf_config("27b") if name in real and name not in ("eos_token_id", "torch_dtype")]
    assert {name: real[name] for name in same} == {name: hf_config("27b")[name] for name in same}
    assert len(same) > 15
