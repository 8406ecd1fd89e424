"""The tokenizer: Gemma's ids, one encoding in both libraries, nothing lost."""

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from model.family.tokenizer import build_sentencepiece, build_tokenizer, pieces

FOLDER = Path("model/family/checkpoints/nano-27b")
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
SENTENCEPIECE = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "tokenizer.model"))
AUTO = AutoTokenizer.from_pretrained(FOLDER)

AWKWARD = [
    "",
    " ",
    "  double  spaces  ",
    "tab\tand\nnewline\r\n",
    "emoji 😀 and é",
    "superuser model",
    "The Whale TheThe",
    "0042",
    "<start_of_turn>user\nhi<end_of_turn>",
    "<0x41><unused5><bos>",
    "\u0000",
    "12+30=?",
    'Spell the word "frog".',
    "汉字",
]
# `▁` is the space's own image, so a typed one comes back as a space, as in Gemma.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=60)
PARTS = ["▁", "W", "Wh", " What", "user", "The", " 12", "è", '"', "is", "\n"]
PHRASES = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


def plain(text: str) -> list[int]:
    """Ids of a text in which nothing is special, however it looks."""
    TOKENIZER.encode_special_tokens = True
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def test_reserved_ids_are_gemmas() -> None:
    expected = {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "<start_of_turn>": 106,
        "<end_of_turn>": 107,
    }
    assert {token: TOKENIZER.token_to_id(token) for token in expected} == expected
    assert [TOKENIZER.token_to_id(f"<0x{byte:02X}>") for byte in range(256)] == list(range(108, 364))
    assert TOKENIZER.get_vocab_size() % 64 == 0


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_survives_and_both_libraries_agree(text: str) -> None:
    assert TOKENIZER.decode(plain(text), skip_special_tokens=False) == text
    assert SENTENCEPIECE.encode(text) == plain(text)


@given(TEXT)
def test_any_text_survives(text: str) -> None:
    assert TOKENIZER.decode(plain(text), skip_special_tokens=False) == text


@given(TEXT | PHRASES)
def test_both_libraries_always_agree(text: str) -> None:
    assert SENTENCEPIECE.encode(text) == plain(text)


@given(TEXT | PHRASES)
def test_transformers_loads_the_same_tokenizer(text: str) -> None:
    assert AUTO.encode(text, add_special_tokens=False, split_special_tokens=True) == plain(text)


def test_specials_typed_in_text_stay_text() -> None:
    assert not {2, 106, 107} & {*plain("<start_of_turn>"), *plain("<end_of_turn>"), *plain("<bos>")}


def test_digits_stand_alone() -> None:
    assert not [piece for piece in pieces() if len(piece) > 1 and piece[0] != "<" and any(map(str.isdigit, piece))]


def test_quoted_words_fall_into_letters() -> None:
    assert [TOKENIZER.id_to_token(token) for token in plain('"mouse"')] == list('"mouse"')


def test_encoding_puts_exactly_one_bos_in_front() -> None:
    assert AUTO("hi").input_ids.count(2) == 1
    chat = AUTO.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True)
    assert chat["input_ids"].count(2) == 1
    assert chat["input_ids"][0] == 2


def test_the_template_is_gemmas() -> None:
    chat = [{"role": "user", "content": " a "}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert AUTO.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
        "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("roles", [("system", "user"), ("user", "user"), ("assistant",)])
def test_the_template_refuses_other_orders(roles: tuple[str, ...]) -> None:
    with pytest.raises(TemplateError):
        AUTO.apply_chat_template([{"role": role, "content": "x"} for role in roles])


def test_the_committed_files_are_what_the_builder_makes() -> None:
    vocabulary = pieces()
    assert build_tokenizer(vocabulary).to_str() == Tokenizer.from_file(str(FOLDER / "tokenizer.json")).to_str()
    assert build_sentencepiece(vocabulary) == (FOLDER / "tokenizer.model").read_bytes()
