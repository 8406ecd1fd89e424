"""The sampler against slow definitions, with and without drafts, alone and in company."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.chance import uniform
from model.config import END_OF_TURN_ID, EOS_ID
from model.errors import InvalidRequestError
from model.events import Logprob
from model.filters import Draw, draw
from model.logprobs import prompt_logprobs
from model.order import keys
from model.request import GenerationRequest, RequestId, SamplingParams
from model.sampler import sample
from model.sampling import Ask, Sampled, SamplingState
from model.token_counts import TokenCounts

V = 200
GREEDY = SamplingParams(max_tokens=64, temperature=0.0)
DRAWN = SamplingParams(max_tokens=64, seed=7)
FULL = SamplingParams(
    max_tokens=64,
    temperature=0.8,
    top_k=90,
    top_p=0.93,
    min_p=0.01,
    presence_penalty=0.3,
    frequency_penalty=0.2,
    repetition_penalty=1.2,
    logit_bias=((5, 2.0), (9, -3.0)),
    min_tokens=3,
    seed=11,
    logprobs=4,
)
PLAIN = [
    GREEDY,
    DRAWN,
    FULL,
    replace(DRAWN, top_p=0.5, seed=3, logprobs=0),
    replace(DRAWN, top_k=5, seed=4),
    replace(DRAWN, min_p=0.2, seed=5),
    replace(GREEDY, repetition_penalty=1.5, logprobs=20),
]


def state(params: SamplingParams, prompt: Sequence[int] = (3, 4, 4), vocabulary: int = V, seed: int = 0) -> Any:
    request = GenerationRequest(RequestId("r"), tuple(prompt), params, timeout_s=60.0)
    return SamplingState(request, vocabulary, seed)


def logits_of(rows: int, vocabulary: int = V, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 30 * torch.tanh(torch.randn(rows, vocabulary, generator=generator) * 0.15)


class Model:
    """Logits that depend on the answer so far, as a model's do."""

    def __init__(self, vocabulary: int = V, spread: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(97, vocabulary, generator=generator) * spread

    def __call__(self, answer: Sequence[int]) -> Tensor:
        return self.table[hash(tuple(answer)) % 97]


def answer_of(params: SamplingParams, drafts: random.Random | None = None, tokens: int = 30, seed: int = 0) -> Any:
    """Tokens and logprobs of a whole answer; drafts are right for a while, then wrong."""
    model, own = Model(), state(params, seed=seed)
    truth = answer_of(params, tokens=tokens + 8, seed=seed)[0] if drafts else []
    answer: list[int] = []
    logprobs: list[Logprob] = []
    while len(answer) < tokens and not (answer and answer[-1] in own.stop_ids):
        draft: tuple[int, ...] = ()
        if drafts:
            right = truth[len(answer) : len(answer) + drafts.randrange(4)]
            draft = (*right, *(drafts.randrange(V) for _ in range(drafts.randrange(3))))
        rows = torch.stack([model([*answer, *draft[:ahead]]) for ahead in range(1 + len(draft))])
        [sampled] = sample(rows, [Ask(own, draft)])
        assert 1 <= len(sampled.token_ids) <= 1 + len(draft)
        answer += sampled.token_ids
        logprobs += sampled.logprobs
        assert own.num_output == len(answer)
    return answer, logprobs


@pytest.mark.parametrize("params", PLAIN)
def test_drafts_change_nothing(params: SamplingParams) -> None:
    plain, plain_logprobs = answer_of(params)
    for seed in range(5):
        drafted, logprobs = answer_of(params, random.Random(seed))
        assert drafted[: len(plain)] == plain[: len(drafted)]
        assert logprobs[: len(plain)] == plain_logprobs[: len(drafted)]


def test_right_drafts_are_taken_whole() -> None:
    model, truth = Model(), answer_of(DRAWN)[0]
    rows = torch.stack([model(truth[:ahead]) for ahead in range(6)])
    assert sample(rows, [Ask(state(DRAWN), tuple(truth[:5]))])[0].token_ids == tuple(truth[:6])
    wrong = (*truth[:2], (truth[2] + 1) % V, *truth[3:5])
    assert sample(rows, [Ask(state(DRAWN), wrong)])[0].token_ids == tuple(truth[:3])


def chi_square(counts: Counter[int], expected: Tensor, draws: int) -> float:
    """Statistic minus its mean, in standard deviations, over cells of 5 or more."""
    cells = [(counts[token], p * draws) for token, p in enumerate(expected.tolist()) if p * draws >= 5]
    rest = draws - sum(seen for seen, _ in cells)
    cells.append((rest, max(draws - sum(mean for _, mean in cells), 1e-9)))
    value = sum((seen - mean) ** 2 / mean for seen, mean in cells if mean > 1e-6)
    return (value - (len(cells) - 1)) / math.sqrt(2 * (len(cells) - 1))


@pytest.mark.parametrize("drafted", [False, True])
def test_distribution_is_softmax(drafted: bool) -> None:
    """Over many seeds; with a draft, also what follows an accepted guess is distributed as the model says."""
    draws, row = 4000, torch.randn(2, 12, generator=torch.Generator().manual_seed(2)) * 1.5
    asks = [Ask(state(replace(DRAWN, seed=seed), vocabulary=V), (4,) if drafted else ()) for seed in range(draws)]
    wide = torch.full((2, V), -60.0)
    wide[:, 110:122] = row
    asks = [Ask(ask.state, (114,) if drafted else ()) for ask in asks]
    found = sample((wide if drafted else wide[:1]).repeat(draws, 1), asks)
    first = Counter(sampled.token_ids[0] for sampled in found)
    assert abs(chi_square(first, wide[0].softmax(-1), draws)) < 4
    if drafted:
        second = Counter(sampled.token_ids[1] for sampled in found if len(sampled.token_ids) == 2)
        assert second.total() == first[114]
        assert abs(chi_square(second, wide[1].softmax(-1), second.total())) < 4


def test_random_numbers_are_even_and_unlike() -> None:
    numbers = [uniform(seed, position) for seed in range(-50, 50) for position in range(100)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 for number in numbers)
    tenths = Counter(int(number * 10) for number in numbers)
    assert all(880 < tenths[tenth] < 1120 for tenth in range(10))
    lagged = sum((a - 0.5) * (b - 0.5) for a, b in itertools.pairwise(numbers)) / len(numbers)
    assert abs(lagged) < 4 / 12 / math.sqrt(len(numbers))
    assert uniform(2**64 + 5, 3) == uniform(5, 3)


def kept(logits: Tensor, params: SamplingParams) -> set[int]:
    """Tokens of one row that are drawn for some number, found by drawing with many."""
    numbers = [index / 4000 for index in range(4000)]
    rows = logits.expand(len(numbers), -1)
    return set(draw(rows, rows.amax(-1, keepdim=True), [Draw(params, number) for number in numbers]).tolist())


FILTERS: list[tuple[SamplingParams, Any]] = [
    (replace(DRAWN, top_k=1), TopKLogitsWarper(1)),
    (replace(DRAWN, top_k=7), TopKLogitsWarper(7)),
    (replace(DRAWN, top_p=0.6), TopPLogitsWarper(0.6)),
    (replace(DRAWN, top_p=0.9), TopPLogitsWarper(0.9)),
    (replace(DRAWN, min_p=0.1), MinPLogitsWarper(0.1)),
]


@pytest.mark.parametrize(("params", "warper"), FILTERS)
def test_filters_keep_what_transformers_keeps(params: SamplingParams, warper: Any) -> None:
    logits = logits_of(1, 40, seed=8)
    expected = warper(None, logits.clone())[0].isfinite().nonzero().flatten().tolist()
    assert kept(logits, params) == set(expected)


def slow_distribution(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """Probabilities after temperature, top-k, top-p and min-p, by the definition."""
    top = max(logits)
    weight = {token: math.exp((value - top) / params.temperature) for token, value in enumerate(logits)}
    order = sorted(weight, key=lambda token: (-logits[token], token))
    order = order[: params.top_k or len(order)]
    total, reached, nucleus = sum(weight[token] for token in order), 0.0, []
    for token in order:
        nucleus.append(token)
        reached += weight[token]
        if params.top_p < 1 and reached >= params.top_p * total:
            break
    final = [token for token in nucleus if weight[token] >= params.min_p]
    total = sum(weight[token] for token in final)
    return {token: weight[token] / total for token in final}


@settings(max_examples=60)
@given(
    values=st.lists(st.integers(-20, 20), min_size=2, max_size=40),
    k=st.none() | st.integers(1, 45),
    p=st.sampled_from([0.0, 0.31, 0.77, 0.98, 1.0]),
    min_p=st.sampled_from([0.0, 0.011, 0.3, 1.0]),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    chance=st.integers(0, 999),
)
def test_draws_follow_the_definition(
    values: list[int], k: int | None, p: float, min_p: float, temperature: float, chance: int
) -> None:
    """Ties included: the token is the one whose share of the running sum holds the number."""
    number = (chance + 0.5) / 1000
    params = replace(DRAWN, top_k=k, top_p=p, min_p=min_p, temperature=temperature)
    logits = torch.tensor([values], dtype=torch.float32) / 2
    token = int(draw(logits, logits.amax(-1, keepdim=True), [Draw(params, number)]))
    shares = slow_distribution(logits[0].tolist(), params)
    assert token in shares
    below = sum(share for other, share in shares.items() if other < token)
    assert below - 1e-5 <= number <= below + shares[token] + 1e-5


@pytest.mark.parametrize(("k", "p"), [(None, 0.99), (None, 0.6), (1500, 1.0), (1500, 0.97), (3000, 0.5), (900, 0.999)])
def test_wide_rows_are_sorted_as_far_as_needed(k: int | None, p: float) -> None:
    """Flat rows need more than the 1,024 best."""
    generator = torch.Generator().manual_seed(6)
    logits = torch.stack([torch.randn(4000, generator=generator), torch.randn(4000, generator=generator) * 4])
    params = replace(DRAWN, top_k=k, top_p=p)
    for number in (0.0, 0.3, 0.9999):
        ids = draw(logits, logits.amax(-1, keepdim=True), [Draw(params, number)] * 2).tolist()
        for row, token in enumerate(ids):
            shares = slow_distribution(logits[row].tolist(), params)
            below = sum(share for other, share in shares.items() if other < token)
            assert below - 1e-4 <= number <= below + shares[token] + 1e-4


def test_nothing_asked_is_nothing_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("done for nothing")

    for name in ("topk", "sort", "cumsum"):
        monkeypatch.setattr(Tensor, name, never)
    asks = [Ask(state(GREEDY)), Ask(state(GREEDY), (1, 2))]
    monkeypatch.setattr(Tensor, "clone", never)
    monkeypatch.setattr(Tensor, "exp", never)
    assert sample(logits_of(4), asks)[0].token_ids == (int(logits_of(4)[0].argmax()),)
    monkeypatch.undo()
    monkeypatch.setattr(Tensor, "topk", never)
    assert len(sample(logits_of(2), [Ask(state(DRAWN)), Ask(state(replace(DRAWN, min_p=0.1)))])) == 2


def test_greedy_takes_the_first_of_equals() -> None:
    row = torch.zeros(1, V)
    row[0, [8, 90]] = 5.0
    assert sample(row, [Ask(state(GREEDY))])[0].token_ids == (8,)
    assert sample(row, [Ask(state(replace(GREEDY, temperature=1e-9)))])[0].token_ids == (8,)
    cold = replace(DRAWN, temperature=2e-5)
    assert sample(row * 6, [Ask(state(cold))])[0].token_ids[0] in (8, 90)


@pytest.mark.parametrize(("vocabulary", "threads"), [(1792, 1), (1792, 2), (256_000, 1), (256_000, 2)])
def test_rows_do_not_see_their_company(vocabulary: int, threads: int) -> None:
    """Alone, among seven, in another order, with one thread or two: the same bits."""
    before = torch.get_num_threads()
    logits = logits_of(len(PLAIN), vocabulary, seed=4)
    logits[:, 50] = logits[:, 60] = logits[:, 70] = logits.amax()  # ties at the top, as bf16 has them
    wishes = [replace(params, logprobs=20) for params in PLAIN]

    def run(order: Sequence[int]) -> dict[int, Sampled]:
        asks = [Ask(state(wishes[row], vocabulary=vocabulary)) for row in order]
        return dict(zip(order, sample(logits[list(order)], asks), strict=True))

    try:
        alone = [run([row])[row] for row in range(len(wishes))]
        torch.set_num_threads(threads)
        for order in (list(range(len(wishes))), [4, 2, 6, 0, 5, 1, 3], [3, 1]):
            for row, sampled in run(order).items():
                assert sampled == alone[row]
    finally:
        torch.set_num_threads(before)


def test_exponentials_do_not_see_their_place() -> None:
    """What all of the above rests on: element by element, `exp` gives one result wherever the element lies."""
    values = -20 * torch.rand(4099, generator=torch.Generator().manual_seed(3))
    whole = values.exp()
    for start in range(40):
        for length in (1, 3, 8, 17, 63):
            assert torch.equal(values[start : start + length].exp(), whole[start : start + length])


def test_penalties_are_transformers_and_vllms() -> None:
    logits, prompt, answer = logits_of(1, seed=9), (3, 4, 4), (9, 9, 4)
    own = state(
        replace(GREEDY, repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=0.4, logit_bias=((2, 1.5),)),
        prompt,
    )
    own.advance(answer)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[*prompt, *answer]]), logits.clone())
    counts = torch.bincount(torch.tensor(answer), minlength=V)  # as vLLM: the answer only
    expected = expected - 0.7 * counts - 0.4 * (counts > 0)
    expected[0, 2] += 1.5
    assert torch.allclose(edited(logits, [Ask(own)]), expected, atol=1e-6)


def edited(logits: Tensor, asks: Sequence[Ask]) -> Tensor:
    from model.sampler import _edited

    return _edited(logits, asks)[0]


def test_rows_of_a_draft_are_penalised_as_if_it_were_confirmed() -> None:
    params = replace(GREEDY, repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=0.4)
    logits, draft = logits_of(4, seed=10), (9, 3, 9)
    own = state(params)
    own.advance([9, 30])
    together = edited(logits, [Ask(own, draft)])
    for ahead in range(4):
        other = state(params)
        other.advance([9, 30, *draft[:ahead]])
        assert torch.equal(together[ahead], edited(logits[ahead : ahead + 1], [Ask(other)])[0])
    assert (own.counts.ids.tolist(), own.counts.counts.tolist()) == ([3, 4, 9, 30], [0, 0, 1, 1])


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_counts_go_back_the_way_they_came(prompt: list[int], answer: list[int], draft: list[int]) -> None:
    counts = TokenCounts(prompt)
    for token in answer:
        counts.add(token)
    before = list(counts.ids), list(counts.counts)
    for token in draft:
        counts.add(token)
    both = Counter(answer) + Counter(draft)
    assert dict(zip(counts.ids, counts.counts, strict=True)) == {t: both[t] for t in [*prompt, *answer, *draft]}
    for token in reversed(draft):
        counts.remove(token)
    assert (list(counts.ids), list(counts.counts)) == before


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_stop_before_min_tokens(temperature: float) -> None:
    eager = torch.full((6, V), 0.0)
    eager[:, [EOS_ID, END_OF_TURN_ID, 20]] = 29.0
    params = SamplingParams(max_tokens=9, temperature=temperature, min_tokens=3, stop_token_ids=(20,), seed=1)
    own = state(params)
    first = sample(eager[:1], [Ask(own)])[0].token_ids
    assert not own.stop_ids & set(first)
    draft = (EOS_ID, EOS_ID)  # refused, whatever the draft says
    assert not own.stop_ids & set(sample(eager[:3], [Ask(own, draft)])[0].token_ids)
    while own.num_output < 3:
        assert not own.stop_ids & set(sample(eager[:1], [Ask(own)])[0].token_ids)
    assert sample(eager[:1], [Ask(own)])[0].token_ids[0] in own.stop_ids


def test_nothing_follows_a_stop() -> None:
    rows = torch.zeros(4, V)
    rows[[0, 1, 2, 3], [7, END_OF_TURN_ID, 8, 9]] = 20.0
    ask = (7, END_OF_TURN_ID, 8)
    assert sample(rows, [Ask(state(GREEDY), ask)])[0].token_ids == (7, END_OF_TURN_ID)
    assert sample(rows, [Ask(state(replace(GREEDY, ignore_eos=True)), ask)])[0].token_ids == (*ask, 9)
    own = replace(GREEDY, ignore_eos=True, stop_token_ids=(8,))
    assert sample(rows, [Ask(state(own), ask)])[0].token_ids == ask


def test_bias_bans_and_forces() -> None:
    row = logits_of(1, seed=12)
    best = int(row.argmax())
    assert sample(row, [Ask(state(replace(GREEDY, logit_bias=((17, 100.0),))))])[0].token_ids == (17,)
    assert sample(row, [Ask(state(replace(GREEDY, logit_bias=((best, -100.0),))))])[0].token_ids != (best,)


@pytest.mark.parametrize("field", ["logit_bias", "stop_token_ids"])
def test_unknown_token_ids_are_refused(field: str) -> None:
    value = ((V, 1.0),) if field == "logit_bias" else (V,)
    with pytest.raises(InvalidRequestError) as refused:
        state(replace(GREEDY, **{field: value}))
    assert refused.value.fault.field == field


def test_logprobs_are_the_models_own() -> None:
    """Neither penalties nor temperature show in them."""
    logits = logits_of(3, 1792, seed=13)
    params = replace(FULL, logprobs=20)
    [sampled] = sample(logits, [Ask(state(params, vocabulary=1792), (1000, 1001))])
    expected = logits.log_softmax(-1)
    for row, (token, logprob) in enumerate(zip(sampled.token_ids, sampled.logprobs, strict=True)):
        assert logprob.token_id == token
        assert logprob.logprob == pytest.approx(float(expected[row, token]), abs=2e-6)
        values, ids = expected[row].topk(20)
        assert [best for best, _ in logprob.top] == ids.tolist()
        assert [value for _, value in logprob.top] == pytest.approx(values.tolist(), abs=2e-6)


def test_prompt_logprobs_come_in_chunks_and_agree() -> None:
    logits, ids = logits_of(21, 300, seed=14), [index * 7 % 300 for index in range(21)]
    found = prompt_logprobs(logits, ids, 2)
    expected = logits.log_softmax(-1)
    assert [each.token_id for each in found] == ids
    assert [each.logprob for each in found] == pytest.approx(expected[range(21), ids].tolist(), abs=2e-6)
    assert all([best for best, _ in each.top] == expected[row].topk(2)[1].tolist() for row, each in enumerate(found))
    assert found[9] == prompt_logprobs(logits[9:10], ids[9:10], 2)[0]
    assert all(each.top == () for each in prompt_logprobs(logits, ids, 0))


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30))
def test_keys_order_as_values_do(values: list[float]) -> None:
    row = torch.tensor([values])
    order = keys(row)[0].tolist()
    ranked = sorted(range(len(values)), key=lambda place: -order[place])
    assert ranked == sorted(range(len(values)), key=lambda place: (-row[0, place].item(), place))
    assert len(set(order)) == len(order)


def test_a_state_built_anew_goes_on_the_same() -> None:
    tokens = answer_of(FULL)[0]
    for cut in (1, 4, 9):
        own = state(FULL)
        own.advance(tokens[:cut])
        assert sample(Model()(tokens[:cut]).unsqueeze(0), [Ask(own)])[0].token_ids == (tokens[cut],)


def test_seeds_come_from_the_request_or_the_engine() -> None:
    unseeded = replace(DRAWN, seed=None)
    assert answer_of(unseeded, seed=7)[0] == answer_of(DRAWN, seed=99)[0] != answer_of(unseeded, seed=8)[0]


def test_rows_that_are_no_numbers_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        logits = logits_of(2)
        logits[1, 3] = bad
        for params in (GREEDY, DRAWN, FULL):
            with pytest.raises(FloatingPointError):
                sample(logits, [Ask(state(GREEDY)), Ask(state(params))])
    with pytest.raises(ValueError, match="rows"):
        sample(logits_of(2), [Ask(state(GREEDY))])
    assert sample(torch.zeros(0, V), []) == []
