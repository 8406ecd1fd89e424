"""What a rank needs, known before anything is loaded, and held to what is then really there."""

from math import prod
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig

from model.capacity import BLOCK_TOKENS, bytes_per_block, num_blocks
from model.checkpoint import Checkpoint, ModelShape, open_checkpoint, shape_of, tensor_shapes
from model.config import CONTEXT_TOKENS, SIZES, SLIDING_WINDOW_TOKENS, Dtype, EngineConfig, Quantization, Size
from model.errors import CheckpointError
from model.fit import check_fits, check_memory
from model.gemma2 import Gemma2
from model.kv_blocks import KvBlocks
from model.loader import Loader
from model.memory import degrees, estimate, rank_shapes, split_dimension, table
from model.plain import PlainOps
from model.runner import BLOCK_TOKENS as RUNNER_BLOCK_TOKENS
from model.runner import Runner
from model.shapes import model_shape
from model.source import EMBEDDED_FOLDER
from model.starting import choose_ops
from model.tensors import FileTensors
from model.world import World

REPOSITORY = Path(__file__).parents[3]
BF16 = EngineConfig(dtype=Dtype.BF16, kv_tokens=CONTEXT_TOKENS)
FP32 = EngineConfig(kv_tokens=CONTEXT_TOKENS)
PRECISIONS = [
    EngineConfig(dtype=dtype, quantization=quantization, kv_tokens=1000)
    for dtype in Dtype
    for quantization in (None, *Quantization)
]
precision = pytest.mark.parametrize("config", PRECISIONS, ids=lambda c: f"{c.dtype}-{c.quantization}")


def a_real(size: Size) -> Checkpoint:
    return Checkpoint(Path("gemma"), f"gemma-2-{size}-it", shape_of(size), {}, stand_in=False)


def stored(quantization: Quantization | None, **changes: object) -> EngineConfig:
    return BF16.model_copy(update={"quantization": quantization, **changes})


def kv_bytes_per_token(shape: ModelShape, degree: int, dtype: Dtype) -> int:
    return 2 * bytes_per_block(shape, degree, dtype) // BLOCK_TOKENS


def bytes_of(model: Gemma2) -> int:
    """Everything that a loaded model holds."""
    ends = {id(weight): weight for weight in (model.embedding, model.head)}
    weights = [*ends.values(), *(weight for layer in model.layers for weight in layer.linears().values())]
    norms = [getattr(layer, f"{when}_{what}") for layer in model.layers for when in ("before", "after")
             for what in ("attention", "mlp")]  # fmt: skip
    tensors = [*norms, model.norm, model.cosine, model.sine]
    return sum(weight.num_bytes for weight in weights) + sum(tensor.nbytes for tensor in tensors)


def rank_of_two(module: Any, world: World, dtype: torch.dtype) -> nn.Module:
    """What DeepSpeed makes of nano-27b, by the rule that test_shapes.py holds against DeepSpeed itself."""
    module.lm_head = nn.Linear(1, 1, bias=False, device="meta")  # no longer the embedding
    for name, shape in rank_shapes(model_shape(module.config), world.size, world.rank).items():
        part = nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"))
        setattr(module.get_submodule(name.removesuffix(".weight")), "weight", part)  # noqa: B010
    return cast(nn.Module, module)


@precision
def test_a_rank_of_two_holds_what_was_estimated_to_the_byte(config: EngineConfig) -> None:
    folder, ops, world = EMBEDDED_FOLDER / "nano-27b", PlainOps(), World(0, 2)
    loaded = AutoConfig.from_pretrained(folder)
    with FileTensors(folder) as tensors:
        model = Loader(loaded, tensors, ops, config.dtype, config.quantization, world, split=rank_of_two).load()
    need = estimate(model_shape(loaded), 2, config)
    assert need.weight_bytes == bytes_of(model)
    assert need.kv_bytes == Runner(model, ops, num_blocks(model_shape(loaded), 2, config), config.dtype, world).kv_bytes


@precision
@pytest.mark.parametrize("name", ["nano-27b", "nano-9b"])  # the latter has an odd number of layers
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "best"])
def test_what_is_loaded_is_what_was_estimated_to_the_byte(name: str, config: EngineConfig, plain: bool) -> None:
    folder = EMBEDDED_FOLDER / name
    size = Size(name.removeprefix("nano-"))
    shape = open_checkpoint(folder, size, verify_hashes=False).shape
    ops = PlainOps() if plain else choose_ops(1)[0]
    with FileTensors(folder) as tensors:
        loader = Loader(AutoConfig.from_pretrained(folder), tensors, ops, config.dtype, config.quantization, World())
        model = loader.load()
    runner = Runner(model, ops, num_blocks(shape, 1, config), config.dtype, World())
    need = estimate(shape, 1, config)
    assert need.weight_bytes == bytes_of(model)
    assert need.kv_bytes == runner.kv_bytes
    assert RUNNER_BLOCK_TOKENS == BLOCK_TOKENS


@pytest.mark.parametrize(("size", "tokens"), [(Size.B2, 106_496), (Size.B9, 344_064), (Size.B27, 376_832)])
def test_a_token_of_keys_and_values_is_as_large_as_published(size: Size, tokens: int) -> None:
    assert kv_bytes_per_token(shape_of(size), 1, Dtype.BF16) == tokens


def test_a_full_context_takes_a_quarter_less_than_without_windows() -> None:
    blocks = KvBlocks(10_000, BLOCK_TOKENS, SLIDING_WINDOW_TOKENS)
    whole = 2 * CONTEXT_TOKENS // BLOCK_TOKENS
    assert blocks.peak_blocks(CONTEXT_TOKENS) / whole == pytest.approx(0.75, abs=0.002)
    assert blocks.at_once(CONTEXT_TOKENS) == 10_000 // 769
    assert blocks.at_once(1000) == 10_000 // 126


@pytest.mark.parametrize("size", Size)
def test_every_size_fits_the_published_device_with_one_full_context(size: Size) -> None:
    need = estimate(shape_of(size), 1, BF16)
    assert need.total_bytes <= SIZES[size].memory_gb * 1e9
    assert need.total_bytes >= 0.7 * SIZES[size].memory_gb * 1e9  # the estimate is no wild guess either


@pytest.mark.parametrize(("size", "quantization"), [(Size.B9, Quantization.INT4), (Size.B27, Quantization.INT8)])
def test_quantized_sizes_fit_their_smaller_devices_and_bf16_does_not(size: Size, quantization: Quantization) -> None:
    published = SIZES[size].memory_quantized_gb
    assert published is not None
    assert estimate(shape_of(size), 1, stored(quantization)).total_bytes <= published * 1e9
    assert estimate(shape_of(size), 1, BF16).total_bytes > published * 1e9


@pytest.mark.parametrize(
    ("device_gb", "size", "quantization", "degree"),
    [
        (8, Size.B2, None, 1),
        (12, Size.B9, Quantization.INT4, 1),
        (16, Size.B9, Quantization.INT8, 1),
        (24, Size.B9, None, 1),
        (24, Size.B27, Quantization.INT4, 1),
        (24, Size.B27, Quantization.INT8, 2),
        (40, Size.B27, Quantization.INT8, 1),
        (40, Size.B27, None, 2),
        (80, Size.B27, None, 1),
    ],
)
def test_the_docs_promise_only_what_fits_with_a_full_context(
    device_gb: int, size: Size, quantization: Quantization | None, degree: int
) -> None:
    """docs/real-checkpoints.md, section 3."""
    check_memory(a_real(size), size, degree, stored(quantization), device_gb * 10**9)


def test_the_27b_in_int4_fits_a_host_of_24_gib_at_degree_1_and_2() -> None:
    for degree in (1, 2):
        need = estimate(shape_of(Size.B27), degree, stored(Quantization.INT4, kv_tokens=1024))
        assert degree * need.total_bytes < 24 * 2**30


def test_weights_at_degree_one_are_the_parameters_and_the_head_costs_nothing() -> None:
    norms, rotation = (4 * 26 + 1) * 2304, 4 * CONTEXT_TOKENS * 256
    assert estimate(shape_of(Size.B2), 1, BF16).weight_bytes == 2 * 2_614_341_888 + 2 * norms + rotation
    assert "lm_head.weight" not in rank_shapes(shape_of(Size.B2), 1)


@pytest.mark.parametrize("size", Size)
@pytest.mark.parametrize(("quantization", "bits"), [(Quantization.INT8, 8), (Quantization.INT4, 4.5)])
def test_quantized_weights_are_their_bits_and_an_int8_embedding(
    size: Size, quantization: Quantization, bits: float
) -> None:
    shape = shape_of(size)
    embedding = shape.vocabulary * shape.hidden
    linears = sum(prod(part) for name, part in rank_shapes(shape, 1).items() if split_dimension(name) is not None)
    need = estimate(shape, 1, stored(quantization)).weight_bytes
    assert need == pytest.approx(linears * bits / 8 + embedding, rel=0.01)


@given(size=st.sampled_from(list(Size)), data=st.data())
@settings(max_examples=30)
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


def test_memory_given_becomes_blocks() -> None:
    shape = shape_of(Size.B27)
    for degree in degrees(shape):
        config = stored(None, kv_memory_gb=4.0)
        block, blocks = bytes_per_block(shape, degree, Dtype.BF16), num_blocks(shape, degree, config)
        assert blocks % 2 == 0
        assert 0 <= 4 * 10**9 - blocks * block < 2 * block
        assert estimate(shape, degree, config).kv_bytes == blocks * block
    assert num_blocks(shape, 1, stored(None, kv_tokens=1000)) == 2 * 63


@pytest.mark.parametrize("size", Size)
def test_memory_for_less_than_a_few_blocks_is_refused_with_the_least_that_works(size: Size) -> None:
    with pytest.raises(CheckpointError, match=r"engine\.kv_memory_gb: 0\.01 GB hold .* 256 are the least") as caught:
        num_blocks(shape_of(size), 1, stored(None, kv_memory_gb=0.01))
    least = float(str(caught.value).partition("; set ")[2].split(" ")[0])
    assert num_blocks(shape_of(size), 1, stored(None, kv_memory_gb=least)) == 2 * 16


def message(size: Size, degree: int, config: EngineConfig, free_gb: float, shared: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        check_memory(a_real(size), size, degree, config, int(free_gb * 1e9), shared)
    return str(caught.value)


def test_too_small_a_device_is_told_the_settings_that_fit() -> None:
    said = message(Size.B27, 1, BF16, 40)
    assert said.startswith("27b (gemma-2-27b-it) in bf16 at tensor_parallel 1 needs 59.0 GB on each rank (54.5 weights")
    assert "40.0 GB are there: set tensor_parallel 2 (32.5 GB each); set engine.quantization int8 (31.7 GB)" in said
    assert "set engine.quantization int4 (20.3 GB)" in message(Size.B27, 1, BF16, 24)
    said = message(Size.B9, 1, stored(Quantization.INT8), 12)
    assert "in bf16 with int8 weights at tensor_parallel 1" in said
    assert "set engine.quantization int4 (9.7 GB)" in said


def test_what_is_said_to_fit_fits() -> None:
    for size in Size:
        check_memory(a_real(size), size, 1, stored(Quantization.INT8), int(0.55 * SIZES[size].memory_gb * 1e9) + 10**9)


def test_ranks_on_one_host_share_it() -> None:
    """Another degree gives each of them less, so it is no way out there."""
    said = message(Size.B27, 1, BF16, 40, shared=True)
    assert "tensor_parallel 2 (" not in said
    assert "set engine.quantization int8" in said
    assert "20.0 GB are there" in message(Size.B27, 2, BF16, 40, shared=True)


def test_a_pair_of_settings_is_named_where_no_single_one_is_enough() -> None:
    said = message(Size.B27, 1, BF16, 5)
    assert "5.0 GB are there: set engine.quantization int8 and tensor_parallel 16 (4." in said


def test_fp32_is_told_of_bf16_and_long_caches_of_fewer_tokens() -> None:
    assert "set engine.dtype bf16 (7.4 GB)" in message(Size.B2, 1, FP32, 8)
    said = message(Size.B2, 1, stored(None, kv_tokens=10**6), 8)
    tokens = int(said.rpartition("lower engine.kv_tokens to ")[2].split(";")[0])
    need = check_memory(a_real(Size.B2), Size.B2, 1, stored(None, kv_tokens=tokens), 8 * 10**9)
    assert 0 <= 8 * 10**9 - need.total_bytes < BLOCK_TOKENS * kv_bytes_per_token(shape_of(Size.B2), 1, Dtype.BF16)


def test_a_cache_given_in_gb_is_told_how_many_fit() -> None:
    said = message(Size.B2, 1, stored(None, kv_memory_gb=20.0), 8)
    gb = float(said.rpartition("lower engine.kv_memory_gb to ")[2].split(";")[0])
    need = check_memory(a_real(Size.B2), Size.B2, 1, stored(None, kv_memory_gb=gb), 8 * 10**9)
    assert 0 <= 8 * 10**9 - need.total_bytes < 5 * 10**6


def test_without_a_remedy_a_larger_device_is_asked_for() -> None:
    assert message(Size.B27, 16, BF16, 1).endswith("use a larger device")
    with pytest.raises(CheckpointError, match=r"x needs .* use a larger device$"):
        check_fits("x", estimate(shape_of(Size.B2), 1, BF16), 0)


@given(
    kv_heads=st.integers(1, 16),
    groups=st.integers(1, 4),
    head_dim=st.sampled_from([8, 32, 128]),
    tokens=st.integers(256, 10_000),
    kv_memory_gb=st.one_of(st.none(), st.floats(1e-4, 1.0)),
    stored=st.sampled_from(PRECISIONS),
    free=st.integers(0, 2 * 10**9),
    shared=st.booleans(),
)
@settings(max_examples=60)
def test_an_estimate_never_shrinks_with_tokens_and_checks_never_raise_anything_else(
    kv_heads: int, groups: int, head_dim: int, tokens: int, kv_memory_gb: float | None, stored: EngineConfig, free: int,
    shared: bool,
) -> None:  # fmt: skip
    shape = ModelShape(2, 192, 320, kv_heads * groups, kv_heads, head_dim, 1000)
    checkpoint = Checkpoint(Path("x"), "x", shape, {}, stand_in=True)
    less, more = (stored.model_copy(update={"kv_tokens": tokens + extra}) for extra in (0, BLOCK_TOKENS))
    for degree in degrees(shape):
        assert estimate(shape, degree, less).total_bytes < estimate(shape, degree, more).total_bytes
        try:
            given = less.model_copy(update={"kv_memory_gb": kv_memory_gb})
            check_memory(checkpoint, Size.B2, degree, given, free, shared)
        except CheckpointError as error:
            assert "needs" in str(error) or "kv_memory_gb" in str(error)  # noqa: PT017 - either outcome is right


def test_the_table_in_the_docs_is_the_one_the_code_makes() -> None:
    assert table() in (REPOSITORY / "docs/real-checkpoints.md").read_text()
