"""The kernels against plain torch, and each row against itself in other company, bit by bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batch import Batch
from model.config import Dtype
from model.kernels.library import kernels
from model.linear import Kind
from model.native import NativeOps
from model.ops import Ops
from model.plain import PlainOps

KINDS = tuple(Kind)
LOSS = {Kind.FP32: 2e-6, Kind.BF16: 4e-3, Kind.INT8: 1.5e-2, Kind.INT4: 1.2e-1}


@pytest.fixture(scope="module")
def native() -> NativeOps:
    library = kernels()
    assert library is not None, "the tests need a C++ compiler"
    return NativeOps(library, threads=2)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(ops: Ops, kind: Kind, matrix: torch.Tensor) -> object:
    weight = ops.empty(kind, *matrix.shape, False)
    for start in range(0, len(matrix), 48):
        ops.fill(weight, start, matrix[start : start + 48])
    return weight


def loss(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 13, 64])
def test_a_linear_is_the_product(native: NativeOps, kind: Kind, rows: int) -> None:
    matrix, x = noise(208, 2080, seed=1) * 0.02, noise(rows, 2080, seed=2)
    weight = filled(native, kind, matrix)
    assert loss(native.linear(x, weight), x @ matrix.T) < LOSS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_both_implementations_store_the_same_numbers(native: NativeOps, kind: Kind) -> None:
    matrix = noise(64, 96) * 0.05
    ids = torch.arange(64)
    ours = native.embed(ids, filled(native, kind, matrix), 1.0)
    plain = PlainOps().embed(ids, filled(PlainOps(), kind, matrix), 1.0)
    # A weight half-way between two steps may be rounded either way.
    assert float((ours != plain).float().mean()) < (0.02 if kind in (Kind.INT8, Kind.INT4) else 1e-9)
    assert loss(ours, plain) < 0.02


@pytest.mark.parametrize("kind", [Kind.INT8, Kind.INT4])
def test_plain_torch_never_has_a_whole_quantized_weight_in_fp32(kind: Kind) -> None:
    matrix, x = noise(208, 96) * 0.05, noise(5, 96, seed=2)
    whole, sliced = PlainOps(), PlainOps(dense_numbers=50 * 96)
    assert loss(sliced.linear(x, filled(sliced, kind, matrix)), whole.linear(x, filled(whole, kind, matrix))) < 1e-6


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), rows=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_row_does_not_depend_on_its_neighbours(native: NativeOps, kind: Kind, rows: int, seed: int) -> None:
    weight = filled(native, kind, noise(112, 2112, seed=3))
    x = noise(rows, 2112, seed=seed)
    together = native.linear(x, weight)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(native.linear(x[order].contiguous(), weight), together[order])
    alone = seed % rows
    assert torch.equal(native.linear(x[alone : alone + 1].contiguous(), weight)[0], together[alone])


def test_elementwise_operations(native: NativeOps) -> None:
    plain, x, y, w = PlainOps(), noise(9, 192), noise(9, 192, seed=5) * 3, noise(192, seed=6)
    for mine, theirs in (
        (native.norm(x, w, 1e-6), plain.norm(x, w, 1e-6)),
        (native.geglu(x.clone(), y), plain.geglu(x, y)),
        (native.soft_cap(x.clone() * 40, 30.0), plain.soft_cap(x * 40, 30.0)),
        (native.soft_cap(x.clone() * 1e-3, 50.0), plain.soft_cap(x * 1e-3, 50.0)),
    ):
        assert torch.allclose(mine, theirs, rtol=3e-6, atol=1e-6)
    residual, expected = x.clone(), x.clone()
    native.add_norm(residual, y, w, 1e-6)
    plain.add_norm(expected, y, w, 1e-6)
    assert torch.allclose(residual, expected, rtol=3e-6, atol=1e-6)


def test_capped_scores_stay_finite_at_the_edges(native: NativeOps) -> None:
    x = torch.tensor([[0.0, -0.0, 1e30, -1e30, 1e-30, 50.0, -50.0, 3e38] * 2])
    assert torch.allclose(native.soft_cap(x.clone(), 50.0), torch.tanh(x / 50) * 50, atol=1e-5)


QUERY, KV, DIM, WINDOW = 4, 2, 32, 40


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scale: float, cap: float) -> torch.Tensor:
    """Dense attention of one sequence from its start: q [t, H, D], k and v [t, K, D]."""
    k, v = (x.repeat_interleave(QUERY // KV, dim=1).double() for x in (k, v))
    scores = torch.einsum("thd,shd->hts", q.double(), k) * scale
    scores = torch.tanh(scores / cap) * cap
    at = torch.arange(len(q))
    seen = at[None, :] <= at[:, None]
    if window:
        seen &= at[None, :] > at[:, None] - window
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hts,shd->thd", weights, v).float()


def attended(ops: Ops, x: tuple[torch.Tensor, ...], chunks: list[int], window: int, dtype: Dtype) -> torch.Tensor:
    """One sequence in chunks, its blocks scattered, window blocks dropped when out of sight."""
    q, k, v = (part.flatten(1) for part in x)
    length = len(q)
    still = torch.ones(length, DIM // 2), torch.zeros(length, DIM // 2)
    cache = ops.cache(64, KV, DIM, dtype)
    blocks = torch.randperm(64, generator=torch.Generator().manual_seed(7))[: -(-length // 16)].numpy().astype(np.int32)
    out, start = [], 0
    for chunk in chunks:
        end = start + chunk
        table = blocks[None].copy()
        if window:
            table[0, : max(0, start - window + 1) // 16] = -1
        batch = Batch(np.zeros(chunk, np.int32), np.arange(start, end, dtype=np.int32), np.array([0, chunk], np.int32),
                      np.zeros(0, np.int32), table, table)  # fmt: skip
        rotation = still[0][start:end].contiguous(), still[1][start:end].contiguous()
        part = (x[start:end].clone() for x in (q, k, v))
        out.append(ops.attend(*part, rotation, cache, batch, window, DIM**-0.5, 50.0))
        start = end
    return torch.cat(out).view(length, QUERY, DIM)


@pytest.mark.parametrize("window", [0, WINDOW])
@pytest.mark.parametrize(("dtype", "most"), [(Dtype.FP32, 3e-5), (Dtype.BF16, 1e-1)])
def test_attention_over_blocks(native: NativeOps, window: int, dtype: Dtype, most: float) -> None:
    x = noise(150, QUERY, DIM) * 4, noise(150, KV, DIM, seed=1) * 4, noise(150, KV, DIM, seed=2)
    expected = reference(*x, window, DIM**-0.5, 50.0)
    for ops in (native, PlainOps()):
        assert float((attended(ops, x, [100, 1, 49], window, dtype) - expected).abs().max()) < most


@settings(max_examples=25)
@given(cuts=st.sets(st.integers(1, 149), max_size=12), window=st.sampled_from([0, WINDOW]))
def test_chunks_change_no_bit(native: NativeOps, cuts: set[int], window: int) -> None:
    x = noise(150, QUERY, DIM) * 4, noise(150, KV, DIM, seed=1) * 4, noise(150, KV, DIM, seed=2)
    edges = [0, *sorted(cuts), 150]
    chunks = [b - a for a, b in itertools.pairwise(edges)]
    whole = attended(native, x, [150], window, Dtype.FP32)
    assert torch.equal(attended(native, x, chunks, window, Dtype.FP32), whole)


def test_a_cap_behind_the_mask_would_be_seen(native: NativeOps) -> None:
    """Capping -inf gives -50: the future would leak in."""
    x = noise(20, QUERY, DIM), noise(20, KV, DIM, seed=1), noise(20, KV, DIM, seed=2)
    first = attended(native, x, [20], 0, Dtype.FP32)[0]
    assert torch.allclose(first, x[2][0].repeat_interleave(QUERY // KV, 0), atol=1e-6)


def test_what_cannot_be_packed_is_refused(native: NativeOps) -> None:
    with pytest.raises(ValueError, match="20 x 64"):
        native.empty(Kind.FP32, 20, 64)
