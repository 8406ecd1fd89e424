"""Guesses by look-up: where they come from, how long they are, and that they cost little."""

import random
import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from model.grams import Grams
from model.lookup import MOST, Lookup

PROMPT = [900, 901, 902]


def run(lookup: Lookup, truth: Sequence[int], prompt: Sequence[int] = PROMPT) -> tuple[int, int, int]:
    """Steps until the answer is there, and tokens proposed and accepted."""
    tokens, steps, proposed, accepted = list(prompt), 0, 0, 0
    while (num_output := len(tokens) - len(prompt)) < len(truth):
        room = len(truth) - num_output - 1
        guess = lookup.propose(tokens, num_output, room)
        assert len(guess) <= min(room, MOST)
        right = 0
        while right < len(guess) and guess[right] == truth[num_output + right]:
            right += 1
        tokens += truth[num_output : num_output + right + 1]
        lookup.accepted(len(guess), right)
        steps, proposed, accepted = steps + 1, proposed + len(guess), accepted + right
    return steps, proposed, accepted


def test_a_right_draft_is_followed_from_the_first_token() -> None:
    truth = list(range(100))
    lookup = Lookup(truth, False, PROMPT)
    assert lookup.propose([*PROMPT], 0, 99) == tuple(range(8))
    steps, proposed, accepted = run(Lookup(truth, False, PROMPT), truth)
    assert proposed == accepted
    assert steps <= 8


def test_a_draft_is_found_again_after_an_edit() -> None:
    """Words replaced, put in and left out, as when a file comes back with changes."""
    chance = random.Random(0)
    draft = [chance.randrange(300) for _ in range(400)]
    truth = [*draft[:100], 1000, *draft[101:200], 1001, 1002, 1003, *draft[200:300], *draft[310:]]
    steps, proposed, accepted = run(Lookup(draft, False, PROMPT), truth)
    assert steps < 65
    assert accepted > 0.8 * proposed


def test_behind_is_preferred_to_before() -> None:
    draft = [5, 6, 7, 8, 5, 9, 10, 11, 5, 12]
    lookup = Lookup(draft, False, PROMPT)
    assert lookup.propose([*PROMPT, 5, 6, 7], 3, 2) == (8, 5)
    assert lookup.propose([*PROMPT, 5, 6, 7, 99], 4, 2) == ()
    assert lookup.propose([*PROMPT, 5, 6, 7, 99, 5], 5, 2) == (9, 10)  # the first 5 behind 7
    other = Lookup(draft, False, PROMPT)
    assert other.propose([*PROMPT, *draft, 77, 6], 12, 2) == (7, 8)  # none behind, so anywhere


def test_the_prompt_is_a_source_only_if_asked() -> None:
    prompt = [1, 2, 3, 4, 5, 6, 7]
    tokens = [*prompt, 50, 3, 4]
    assert Lookup((), False, prompt).propose(tokens, 3, 3) == ()
    assert Lookup((), True, prompt).propose(tokens, 3, 3) == (5, 6, 7)
    assert Lookup((), True, prompt).propose([*prompt, 50, 4], 2, 3) == ()  # one token is no evidence
    assert Lookup((), True, prompt).propose([1, 2, 3, 9, 2, 3], 3, 2) == (9, 2)


def test_the_answer_is_a_source_and_repeats_itself() -> None:
    lookup = Lookup((), True, PROMPT)
    assert lookup.propose([*PROMPT, 1, 2, 3, 1, 2, 3, 1, 2], 8, 8) == (3, 1, 2, 3, 1, 2, 3, 1)
    steps, _, _ = run(Lookup((), True, PROMPT), [1, 2, 3] * 60)
    assert steps < 30


def test_the_draft_comes_before_the_prompt() -> None:
    prompt = [1, 2, 3, 4]
    lookup = Lookup([2, 3, 70, 71], True, prompt)
    assert lookup.propose([*prompt, 60, 2, 3], 3, 2) == (70, 71)
    assert lookup.propose([*prompt, 60, 2, 3, 4], 4, 2) == (60, 2)  # the draft has no 4


def test_lengths_follow_success() -> None:
    lookup = Lookup(range(1000), False, PROMPT)

    def length() -> int:
        return len(lookup.propose([*PROMPT], 0, 99))

    lookup.accepted(8, 8)
    assert length() == MOST
    lookup.accepted(16, 16)
    assert length() == MOST
    for expected in (8, 4, 2, 1, 1):
        lookup.accepted(length(), 0)
        assert length() == expected
    lookup.accepted(1, 1)
    assert length() == 2
    lookup.accepted(2, 1)
    assert length() == 1
    lookup.accepted(0, 0)
    assert length() == 1


def test_hopeless_guesses_become_rare() -> None:
    """A prompt that says 1 2 and then always something else."""
    chance, prompt = random.Random(1), [1, 2, 3] * 5
    truth = [token for index in range(300) for token in (1, 2, 1000 + chance.randrange(10**6) + index)]
    _, proposed, _ = run(Lookup((), True, prompt), truth, prompt)
    assert proposed < 80


@given(
    text=st.lists(st.integers(0, 4), max_size=60),
    cuts=st.lists(st.integers(1, 9), max_size=10),
    run_length=st.integers(1, 4),
    start=st.integers(0, 60),
)
def test_grams_find_what_a_scan_finds(text: list[int], cuts: list[int], run_length: int, start: int) -> None:
    grams, shown = Grams((), 1, 4), 0
    for cut in cuts:
        shown += cut
        grams.grow(text[:shown])
    grams.grow(text)
    tail = text[-run_length:]
    places = [
        place for place in range(len(tail), len(text)) if tail == text[place - len(tail) : place] and len(tail) > 0
    ]
    behind = [place for place in places if place > start]
    expected = (behind[0] if behind else places[-1]) if places else None
    assert grams.after(tail, start) == expected


@given(
    draft=st.lists(st.integers(0, 3), max_size=30),
    prompt=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    truth=st.lists(st.integers(0, 3), max_size=50),
    use_prompt=st.booleans(),
)
def test_any_answer_comes_out(draft: list[int], prompt: list[int], truth: list[int], use_prompt: bool) -> None:
    steps, proposed, accepted = run(Lookup(draft, use_prompt, prompt), truth, prompt)
    assert steps + accepted == len(truth)
    assert accepted <= proposed


def test_a_step_costs_little_in_a_long_text() -> None:
    chance = random.Random(2)
    prompt = [chance.randrange(50) for _ in range(7000)]
    truth = [chance.randrange(50) for _ in range(1000)]
    lookup = Lookup(prompt[:2000], True, prompt)
    lookup.propose(list(prompt), 0, 8)  # indexes the prompt
    before_s = time.process_time()
    steps, _, _ = run(lookup, truth, prompt)
    assert (time.process_time() - before_s) / steps < 0.001
