"""Samplers per request, against the definition, row by row."""

from typing import Any

import pytest
import torch
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from model.greedy import GreedyTopK, LazyTopP

VOCABULARY = 50


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3


def kept(scores: torch.Tensor) -> list[int]:
    return [int(row.isfinite().sum()) for row in scores]


def test_top_k_is_each_rows_own(scores: torch.Tensor) -> None:
    k = torch.tensor([1, 5, VOCABULARY, 12], dtype=torch.int32)
    out = GreedyTopK(TopKLogitsWarper(2))(scores, k)
    assert kept(out) == [1, 5, VOCABULARY, 12]
    assert torch.equal(out[0].argmax(), scores[0].argmax())
    for row, count in ((1, 5), (3, 12)):
        assert set(out[row].isfinite().nonzero().flatten().tolist()) == set(scores[row].topk(count).indices.tolist())


def test_greedy_keeps_the_first_of_equals() -> None:
    """bf16 logits tie often; top-k 1 of the library keeps them all."""
    out = GreedyTopK(TopKLogitsWarper(2))(torch.tensor([[0.0, 7.0, 7.0]]), torch.tensor([1], dtype=torch.int32))
    assert out[0].softmax(-1).tolist() == [0.0, 1.0, 0.0]


def test_top_p_is_each_rows_own(scores: torch.Tensor) -> None:
    p = [0.1, 1.0, 0.9, 0.5]
    out = LazyTopP(TopPLogitsWarper(0.5))(scores, torch.tensor(p).view(torch.int32))
    for row, share in enumerate(p):
        alone = TopPLogitsWarper(share)(None, scores[row : row + 1]) if share < 1 else scores[row : row + 1]
        assert torch.equal(out[row], alone[0])


@pytest.mark.parametrize("rows", [2, 4])
def test_nothing_asked_is_nothing_done(scores: torch.Tensor, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments may be longer than the batch."""

    def never(*_: Any) -> None:
        raise AssertionError("sorted for nothing")

    monkeypatch.setattr(torch, "sort", never)
    off = torch.full((4,), VOCABULARY, dtype=torch.int32)
    assert GreedyTopK(TopKLogitsWarper(2))(scores[:rows], off) is not None
    ones = torch.ones(4).view(torch.int32)
    assert torch.equal(LazyTopP(TopPLogitsWarper(0.5))(scores[:rows], ones), scores[:rows])
