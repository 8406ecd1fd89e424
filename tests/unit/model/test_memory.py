"""What a rank needs, known before anything is loaded."""

from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import Checkpoint, ModelShape, open_checkpoint, shape_of, tensor_shapes
from model.config import CONTEXT_TOKENS, SIZES, Dtype, Size
from model.errors import CheckpointError
from model.memory import (
    check_fits,
    check_memory,
    degrees,
    estimate,
    kv_bytes_per_token,
    rank_shapes,
    split_dimension,
    table,
)
from model.source import EMBEDDED_FOLDER

REPOSITORY = Path(__file__).parents[3]


def a_real(size: Size) -> Checkpoint:
    return Checkpoint(Path("gemma"), f"gemma-2-{size}-it", shape_of(size), {}, stand_in=False)


@pytest.mark.parametrize(("size", "tokens"), [(Size.B2, 106_496), (Size.B9, 344_064), (Size.B27, 376_832)])
def test_a_token_of_keys_and_values_is_as_large_as_published(size: Size, tokens: int) -> None:
    assert kv_bytes_per_token(shape_of(size), 1, 2) == tokens


@pytest.mark.parametrize("size", Size)
def test_every_size_fits_the_published_device_with_one_full_context(size: Size) -> None:
    need = estimate(shape_of(size), 1, 16, 2, CONTEXT_TOKENS)
    assert need.total_bytes <= SIZES[size].memory_gb * 1e9
    assert need.total_bytes >= 0.7 * SIZES[size].memory_gb * 1e9  # the estimate is no wild guess either


@pytest.mark.parametrize(("size", "bits"), [(Size.B9, 4), (Size.B27, 8)])
def test_quantized_sizes_fit_their_smaller_devices_and_bf16_does_not(size: Size, bits: int) -> None:
    published = SIZES[size].memory_quantized_gb
    assert published is not None
    assert estimate(shape_of(size), 1, bits, 2, CONTEXT_TOKENS).total_bytes <= published * 1e9
    assert estimate(shape_of(size), 1, 16, 2, CONTEXT_TOKENS).total_bytes > published * 1e9


def test_weights_at_degree_one_are_the_parameters_and_the_head_costs_nothing() -> None:
    assert estimate(shape_of(Size.B2), 1, 16, 2, 0).weight_bytes == 2 * 2_614_341_888
    assert "lm_head.weight" not in rank_shapes(shape_of(Size.B2), 1)


@given(size=st.sampled_from(list(Size)), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_ranks_always_hold_everything_split_once_and_everything_whole_each(size: Size, data: st.DataObject) -> None:
    shape = shape_of(size)
    degree = data.draw(st.sampled_from(degrees(shape)))
    ranks = [rank_shapes(shape, degree, rank) for rank in range(degree)]
    full = tensor_shapes(shape) | ({"lm_head.weight": (shape.vocabulary, shape.hidden)} if degree > 1 else {})
    for name, whole in full.items():
        held = sum(prod(part[name]) for part in ranks)
        assert held == prod(whole) * (1 if split_dimension(name) is not None else degree), name
    assert all(sum(map(prod, ranks[0].values())) >= sum(map(prod, part.values())) for part in ranks)


@pytest.mark.parametrize(("size", "degree"), [(Size.B2, 8), (Size.B9, 16), (Size.B27, 32), (Size.B27, 3), (Size.B2, 0)])
def test_degrees_that_would_copy_kv_heads_are_refused(size: Size, degree: int) -> None:
    with pytest.raises(CheckpointError, match=r"does not divide the .* KV heads; choose one of 1, 2, 4"):
        rank_shapes(shape_of(size), degree)


def test_too_small_a_device_is_told_the_next_degree_that_fits() -> None:
    with pytest.raises(CheckpointError) as caught:
        check_memory(a_real(Size.B27), Size.B27, 1, Dtype.BF16, CONTEXT_TOKENS, 40 * 10**9)
    message = str(caught.value)
    assert message.startswith(
        "27b (gemma-2-27b-it) in bf16 at tensor_parallel 1 needs 58.7 GB on each rank (54.5 weights"
    )
    assert "40.0 GB are there: set tensor_parallel 2 (32.3 GB each); int8 weights would fit" in message


def test_fp32_is_told_of_bf16_and_long_caches_of_fewer_tokens() -> None:
    with pytest.raises(CheckpointError, match=r"set engine\.dtype bf16 \(7\.2 GB\)"):
        check_memory(a_real(Size.B2), Size.B2, 1, Dtype.FP32, CONTEXT_TOKENS, 8 * 10**9)
    with pytest.raises(CheckpointError, match=r"lower engine\.kv_tokens to (\d+)") as caught:
        check_memory(a_real(Size.B2), Size.B2, 1, Dtype.BF16, 10**6, 8 * 10**9)
    tokens = int(str(caught.value).rpartition("kv_tokens to ")[2].split(";")[0])
    need = check_memory(a_real(Size.B2), Size.B2, 1, Dtype.BF16, tokens, 8 * 10**9)
    assert 0 <= 8 * 10**9 - need.total_bytes < kv_bytes_per_token(shape_of(Size.B2), 1, 2)


def test_int8_is_named_as_not_loadable_yet_and_last() -> None:
    with pytest.raises(CheckpointError, match=r"int8 weights would fit .* not loadable yet"):
        check_memory(a_real(Size.B27), Size.B27, 16, Dtype.BF16, CONTEXT_TOKENS, 6 * 10**9)


def test_without_a_remedy_a_larger_device_is_asked_for() -> None:
    with pytest.raises(CheckpointError, match=r"use a larger device$"):
        check_memory(a_real(Size.B27), Size.B27, 16, Dtype.BF16, CONTEXT_TOKENS, 10**9)
    with pytest.raises(CheckpointError, match=r"x needs .* use a larger device$"):
        check_fits("x", estimate(shape_of(Size.B2), 1, 16, 2, 0), 0)


@given(
    kv_heads=st.integers(1, 16),
    groups=st.integers(1, 4),
    head_dim=st.sampled_from([8, 32, 128]),
    tokens=st.integers(0, 10_000),
    dtype=st.sampled_from(list(Dtype)),
    available=st.integers(0, 10**9),
)
@settings(max_examples=60, deadline=None)
def test_an_estimate_never_shrinks_with_tokens_and_checks_never_raise_anything_else(
    kv_heads: int, groups: int, head_dim: int, tokens: int, dtype: Dtype, available: int
) -> None:
    shape = ModelShape(2, 192, 320, kv_heads * groups, kv_heads, head_dim, 1000)
    checkpoint = Checkpoint(Path("x"), "x", shape, {}, stand_in=True)
    for degree in degrees(shape):
        need = estimate(shape, degree, 16, 2, tokens)
        assert need.total_bytes < estimate(shape, degree, 16, 2, tokens + 1).total_bytes
        try:
            check_memory(checkpoint, Size.B2, degree, dtype, tokens, available)
        except CheckpointError as error:
            assert "needs" in str(error)  # noqa: PT017 - either outcome is right


def test_the_stand_ins_file_holds_what_the_estimate_says() -> None:
    checkpoint = open_checkpoint(EMBEDDED_FOLDER / "nano-2b", Size.B2, verify_hashes=False)
    assert estimate(checkpoint.shape, 1, 16, 2, 0).weight_bytes == checkpoint.num_bytes


def test_the_table_in_the_docs_is_the_one_the_code_makes() -> None:
    assert table() in (REPOSITORY / "docs/real-checkpoints.md").read_text()
