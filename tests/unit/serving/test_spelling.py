"""How tokens are spelled, and that a choice's offsets are those of the engine's text."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from model.config import BOS_ID, END_OF_TURN_ID
from model.detokenizer import Detokenizer
from model.events import Logprob
from model.prompt import Prompter
from serving.spelling import Ruler, Speller

PROMPTER = Prompter(Path(__file__).parents[3] / "model/family/checkpoints/nano-2b/tokenizer.json")
SPELLER = Speller(PROMPTER)


def test_tokens_by_themselves() -> None:
    hello, space_there = PROMPTER.encode("Hello there")[1], PROMPTER.encode("Hello there")[-1]
    assert (SPELLER.spell(hello).name, SPELLER.spell(hello).raw) == ("Hello", b"Hello")
    assert SPELLER.spell(space_there).raw == SPELLER.spell(space_there).name.encode()
    for special, name in ((BOS_ID, "<bos>"), (END_OF_TURN_ID, "<end_of_turn>")):
        assert (SPELLER.spell(special).name, SPELLER.spell(special).raw) == (name, None)
    assert SPELLER.spell(10**6).raw is None


def test_bytes_are_pictures_unless_they_are_text() -> None:
    pieces = {PROMPTER._tokenizer.id_to_token(token_id): token_id for token_id in range(PROMPTER.vocabulary)}
    snow, backslash = SPELLER.spell(pieces["<0xE2>"]), SPELLER.spell(pieces["<0x5C>"])
    assert (snow.name, snow.raw, snow.is_text) == ("\\xe2", b"\xe2", False)
    assert (backslash.name, backslash.raw, backslash.is_text) == ("\\", b"\\", True)


def test_minus_infinity_is_a_number() -> None:
    (score,) = Ruler(SPELLER).scored([Logprob(300, float("-inf"), ((300, float("-inf")),))])
    assert (score.logprob, score.top[0][1]) == (-9999.0, -9999.0)


@given(st.text(max_size=20))
def test_offsets_are_where_tokens_begin(text: str) -> None:
    text = text.encode(errors="ignore").decode().replace("▁", " ")
    ids = PROMPTER.encode(text)[1:]
    scores = Ruler(SPELLER, 3).scored(Logprob(token_id, -1.0) for token_id in ids)
    ends = [score.offset - 3 for score in scores]
    assert ends == sorted(ends)
    for score, offset in zip(scores, ends, strict=True):
        assert not score.token.is_text or text[offset:].startswith(score.token.name)


@given(st.lists(st.integers(0, PROMPTER.vocabulary - 1), max_size=30))
def test_text_of_any_ids_is_what_the_engine_would_show(ids: list[int]) -> None:
    engine = Detokenizer(PROMPTER._tokenizer)
    assert Ruler(SPELLER).text_of(ids) == engine.feed(ids) + engine.finish()
