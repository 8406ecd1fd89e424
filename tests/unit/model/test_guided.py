"""Guided answers with the embedded tokenizer: what comes out keeps to the guide, and no guide harms others."""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer

from model.config import STOP_IDS
from model.detokenizer import Detokenizer
from model.errors import Fault, InvalidRequestError
from model.guide_limits import prepared
from model.guided import CompiledGuide, GuideCompiler, GuideMatcher
from model.request import GenerationRequest, Guide, GuideKind, RequestId, SamplingParams
from model.sampler import sample
from model.sampling import Ask, SamplingState

TOKENIZER = Tokenizer.from_file(
    str(Path(__file__).parents[3] / "model" / "family" / "checkpoints" / "nano-2b" / "tokenizer.json")
)
V = TOKENIZER.get_vocab_size()


@pytest.fixture(scope="module")
def compiler() -> Iterator[GuideCompiler]:
    made = GuideCompiler(TOKENIZER, V, STOP_IDS)
    yield made
    process = made._process._process
    made.close()
    assert process is None or process.returncode is not None


def compiled(compiler: GuideCompiler, kind: GuideKind, text: str = "", timeout_s: float = 20.0) -> CompiledGuide:
    return asyncio.run(compiler.compile(Guide(kind, text), timeout_s))


def state(guide: CompiledGuide, **settings: Any) -> SamplingState:
    params = SamplingParams(**{"max_tokens": 400, **settings})
    request = GenerationRequest(RequestId("r"), (2,), params, timeout_s=60.0)
    return SamplingState(request, V, 0, guide.matcher())


def row(own: SamplingState, seed: int, ahead: int = 0, enders: bool = True) -> torch.Tensor:
    """A random model's logits; with time it comes to like what ends strings, brackets and the answer."""
    generator = torch.Generator().manual_seed(seed * 10_007 + own.num_output + ahead)
    logits = torch.randn(V, generator=generator) * 3
    if enders and own.num_output + ahead > 25:
        logits[[1, *(TOKENIZER.token_to_id(piece) for piece in ('"', "}", "]"))]] += 12
        logits[[TOKENIZER.token_to_id(piece) for piece in ("[", "{", "\\", ",", ":")]] -= 12
    return logits


def answer(own: SamplingState, seed: int, limit: int = 400) -> str | None:
    """Text of a whole answer, None if it did not end. Random drafts, some of them right by chance or by cheating."""
    chance, text = random.Random(seed), Detokenizer(TOKENIZER)
    shown = ""
    while own.num_output < limit:
        draft = tuple(chance.randrange(V) for _ in range(chance.randrange(3)))
        rows = torch.stack([row(own, seed, ahead) for ahead in range(1 + len(draft))])
        [sampled] = sample(rows, [Ask(own, draft)])
        assert sampled.fault is None
        shown += text.feed(sampled.token_ids)
        if sampled.token_ids[-1] in own.stop_ids:
            assert own.matcher is not None
            assert own.matcher.done
            return shown + text.finish()
    return None


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name"]},
    {"type": "array", "items": {"enum": ["é", "a b", 'q"', 7, None, True]}, "minItems": 1, "maxItems": 4},
    {"anyOf": [{"type": "number", "minimum": 0, "maximum": 9}, {"type": "string", "pattern": '^[^"\\\\]{2,5}$'}]},
    {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"const": "x\ny"}}}},
        "$ref": "#/$defs/node",
    },
    {"type": "string", "minLength": 3, "maxLength": 6},
    {"type": "object", "propertyNames": {"minLength": 1}, "additionalProperties": {"type": "string", "minLength": 2}},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_answers_validate_against_the_schema(compiler: GuideCompiler, schema: dict[str, Any]) -> None:
    guide = compiled(compiler, GuideKind.JSON_SCHEMA, json.dumps(schema))
    ended = [text for seed in range(5) if (text := answer(state(guide, temperature=1.0), seed)) is not None]
    assert len(ended) >= 3
    for text in ended:
        jsonschema.validate(json.loads(text), schema)


def test_json_mode_gives_objects(compiler: GuideCompiler) -> None:
    guide = compiled(compiler, GuideKind.JSON)
    ended = [text for seed in range(5) if (text := answer(state(guide), seed)) is not None]
    assert ended
    assert all(isinstance(json.loads(text), dict) for text in ended)


@pytest.mark.parametrize(
    "pattern", [r"[a-z]{3,5}-\d+", r"(?:ja|nein|vielleicht)!{0,2}", r".{2,9}x", "é+日[ ▁]?本", r"^ab$"]
)
def test_answers_match_the_expression(compiler: GuideCompiler, pattern: str) -> None:
    guide = compiled(compiler, GuideKind.REGEX, pattern)
    ended = [text for seed in range(5) if (text := answer(state(guide), seed)) is not None]
    # Gemma's text has a space wherever a token has ▁, so ▁ itself cannot be told from it.
    assert all(re.fullmatch(pattern, text) or re.fullmatch(pattern, text.replace(" ", "▁")) for text in ended)
    assert len(ended) >= 3


def test_answers_are_among_the_choices(compiler: GuideCompiler) -> None:
    choices = ["yes", "yes, sir", "no", 'a "b"\\\n', "tab\t", "日本 😀", " leading", "  two"]
    guide = compiled(compiler, GuideKind.CHOICE, json.dumps(choices))
    texts = {answer(state(guide), seed) for seed in range(40)}
    assert texts <= set(choices)
    assert len(texts) >= 5


def test_answers_follow_the_grammar(compiler: GuideCompiler) -> None:
    guide = compiled(compiler, GuideKind.GRAMMAR, 'root ::= "(" root ")" | digit+\ndigit ::= [0-9]')
    texts = [answer(state(guide), seed, 60) for seed in range(6)]
    for text in filter(None, texts):
        inner = text.strip("()")
        assert inner.isdecimal()
        assert text.count("(") == text.count(")")
    assert any(texts)


def test_pieces_are_read_as_gemmas() -> None:
    """Byte tokens are bytes, ▁ is a space, special tokens never stand in an answer."""
    from model.guide_worker import load_vocabulary
    from model.guided import _pieces

    vocabulary = load_vocabulary(_pieces(TOKENIZER, V + 7), list(STOP_IDS))
    special = {token_id for token_id, token in TOKENIZER.get_added_tokens_decoder().items() if token.special}
    for token_id, spelled in enumerate(vocabulary.decoded_vocab):
        piece = TOKENIZER.id_to_token(token_id) if token_id < V else None
        if piece is None or token_id in special:
            assert spelled == b""
        elif byte := re.fullmatch(r"<0x(..)>", piece):
            assert spelled == bytes.fromhex(byte[1])
        else:
            assert spelled.decode() == TOKENIZER.decode([token_id])
    assert special - {*STOP_IDS} <= {*vocabulary.special_token_ids}
    assert not vocabulary.add_prefix_space


def matcher(compiler: GuideCompiler, kind: GuideKind, text: str) -> GuideMatcher:
    return compiled(compiler, kind, text).matcher()


def allowed(own: GuideMatcher) -> set[int]:
    mask = torch.zeros(-(-V // 32), dtype=torch.int32)
    own.fill(mask)
    return {32 * word + bit for word, bits in enumerate(mask.tolist()) for bit in range(32) if bits >> bit & 1}


def test_matcher_goes_forth_and_back(compiler: GuideCompiler) -> None:
    own = matcher(compiler, GuideKind.REGEX, "ab?")
    a, b = TOKENIZER.token_to_id("a"), TOKENIZER.token_to_id("b")
    start = allowed(own)
    assert a in start
    assert not start & {*STOP_IDS, b}
    assert not own.accept(b)
    assert allowed(own) == start
    assert own.accept(a)
    assert allowed(own) >= {*STOP_IDS, b}
    assert own.accept(b)
    assert allowed(own) == {*STOP_IDS}
    assert not own.done
    assert own.accept(STOP_IDS[1])
    assert own.done
    own.rollback(3)
    assert not own.done
    assert allowed(own) == start


def test_guided_text_does_not_depend_on_drafts(compiler: GuideCompiler) -> None:
    guide = compiled(compiler, GuideKind.JSON_SCHEMA, json.dumps(SCHEMAS[0]))
    for seed in range(3):
        plain: list[int] = []
        own = state(guide, seed=seed)
        while len(plain) < 60 and not (plain and plain[-1] in own.stop_ids):
            plain += sample(row(own, seed).unsqueeze(0), [Ask(own)])[0].token_ids
        drafted: list[int] = []
        own, chance = state(guide, seed=seed), random.Random(seed)
        while len(drafted) < len(plain):
            right = plain[len(drafted) : len(drafted) + chance.randrange(5)]
            draft = (*right, *(chance.randrange(V) for _ in range(chance.randrange(3))))
            rows = torch.stack([row(own, seed, ahead) for ahead in range(1 + len(draft))])
            drafted += sample(rows, [Ask(own, draft)])[0].token_ids
        assert drafted[: len(plain)] == plain


def test_a_complete_answer_ends_whatever_was_asked(compiler: GuideCompiler) -> None:
    """`min_tokens` and `ignore_eos` cannot make a complete answer longer."""
    guide = compiled(compiler, GuideKind.CHOICE, '["no"]')
    assert answer(state(guide, min_tokens=50, ignore_eos=True), 0) == "no"
    longer = compiled(compiler, GuideKind.REGEX, "a{1,40}")
    text = answer(state(longer, min_tokens=5, temperature=0.0, logit_bias=((1, 100.0),)), 0)
    assert text is not None
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert len(text) >= 5
    assert len(tokens) >= 1


def test_guided_and_free_rows_share_a_step(compiler: GuideCompiler) -> None:
    guide = compiled(compiler, GuideKind.CHOICE, '["yes","no"]')
    free = SamplingState(GenerationRequest(RequestId("f"), (2,), SamplingParams(9, 0.0), 60.0), V, 0)
    rows = torch.zeros(3, V)
    rows[:, 777] = 9.0
    first, second, third = sample(rows, [Ask(free), Ask(state(guide)), Ask(free)])
    assert first.token_ids == third.token_ids == (777,)
    assert {"yes": 1, "no": 1}.get(TOKENIZER.decode(list(second.token_ids)), 0) or second.token_ids != (777,)


def deep(levels: int) -> str:
    return '{"type":"array","items":' * levels + "{}" + "}" * levels


NASTY: list[tuple[GuideKind, str]] = [
    *((GuideKind.JSON_SCHEMA, text) for text in (
        "", "{", "[]", "1", "false", '{"type":"foo"}', '{"$ref":"#/$defs/none"}', '{"enum":[]}', '{"a":"\ud800"}',
        '{"type":"string","pattern":"("}', '{"type":"string","format":"json-pointer"}',
        '{"type":"string","pattern":"a\\"b"}', '{"type":"string","pattern":"\\\\n"}',
        '{"type":"string","pattern":"[\\\\\\\\]"}', '{"type":"string","minLength":3,"maxLength":1}',
        '{"type":"string","minLength":3,"pattern":"^a+$"}', '{"allOf":[{"type":"string"},{"type":"integer"}]}',
        '{"$ref":"http://x/y"}', '{"$ref":"#"}', deep(65), deep(20_000),
        "[" * 100_000, json.dumps({"title": "x" * 70_000}),
    )),
    *((GuideKind.REGEX, text) for text in (
        "(", "[", "*a", "a{3,1}", "(?=a)b", r"(a)\1", r"\bfoo", r"\p{L}", "(?i)a", "[z-a]", r"\x4", "a\0b", "a^b",
        "a{99999999999999999999}", "a{2147483648}", "(" * 30_000 + "a" + ")" * 30_000, "a" * 70_000,
    )),
    *((GuideKind.CHOICE, text) for text in (
        "", "[]", "{}", '"a"', "[1]", '["a", null]', '["\\ud800"]', '["a\\u0000"]',
        json.dumps([str(i) for i in range(1001)]),
    )),
    *((GuideKind.GRAMMAR, text) for text in (
        "", "root", 'x ::= "a"', "root ::= y", 'root ::= "a', "root ::= root", 'root ::= "a" x\nx ::= x',
        "root ::= a\na ::= b\nb ::= a", "root ::= " + "(" * 9000 + '"a"' + ")" * 9000,
    )),
]  # fmt: skip


def refusal(compiler: GuideCompiler, kind: GuideKind, text: str) -> Fault | None:
    try:
        compiled(compiler, kind, text)
    except InvalidRequestError as error:
        return error.fault
    return None


def test_nasty_guides_are_refused_naming_the_field(compiler: GuideCompiler) -> None:
    fields = {"json_schema": "response_format", "regex": "guided_regex", "choice": "guided_choice"}
    for kind, text in NASTY:
        fault = refusal(compiler, kind, text)
        assert fault is not None, f"accepted {kind} {text[:80]!r}"
        assert fault.field == fields.get(kind, "guided_grammar")
        assert fault.message.startswith(f"{fault.field}: ")
        assert len(fault.message) < 700
        assert "cpp" not in fault.message
    assert answer(state(compiled(compiler, GuideKind.CHOICE, '["fine"]')), 0) == "fine"


def test_a_guide_that_explodes_is_stopped(compiler: GuideCompiler) -> None:
    """Others are compiled meanwhile, and the event loop goes on."""
    properties = {f"p{index}": {"type": "string"} for index in range(2000)}
    explosive = Guide(GuideKind.JSON_SCHEMA, json.dumps({"type": "object", "properties": properties}))

    async def both() -> tuple[float, float]:
        before_s = time.monotonic()
        slow = asyncio.create_task(compiler.compile(explosive, 1.0))
        await asyncio.sleep(0)
        await compiler.compile(Guide(GuideKind.CHOICE, '["meanwhile"]'), 20.0)
        other_s = time.monotonic() - before_s
        with pytest.raises(InvalidRequestError, match="takes more than 1 s") as refused:
            await slow
        assert refused.value.fault.reason == "guide_too_slow"
        return other_s, time.monotonic() - before_s

    _, total_s = asyncio.run(both())
    assert total_s < 15


@pytest.mark.parametrize("text", [r"(a*)*(a*)*(a*)*b", "(a{1,100}){1,100}"])
def test_an_ambiguous_guide_fails_alone(compiler: GuideCompiler, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.guided._PATIENCE_S", -0.5)
    own = state(compiled(compiler, GuideKind.REGEX, text), temperature=0.0)
    free = SamplingState(GenerationRequest(RequestId("f"), (2,), SamplingParams(9, 0.0), 60.0), V, 0)
    rows = torch.zeros(2, V)
    rows[:, TOKENIZER.token_to_id("a")] = 9.0
    for _ in range(400):
        guided, other = sample(rows, [Ask(own), Ask(free)])
        assert other.token_ids
        if guided.fault:
            break
    assert guided.fault is not None
    assert (guided.fault.field, guided.token_ids) == ("guided_regex", ())


def test_guides_are_kept_and_the_process_comes_back(compiler: GuideCompiler) -> None:
    guide = Guide(GuideKind.CHOICE, '["kept"]')

    async def many() -> list[CompiledGuide]:
        return await asyncio.gather(*(compiler.compile(guide, 20.0) for _ in range(8)))

    first, *others = asyncio.run(many())
    assert all(other is first for other in others)
    process = compiler._process._process
    assert process is not None
    process.kill()
    process.wait()
    assert asyncio.run(compiler.compile(guide, 20.0)) is first
    assert compiled(compiler, GuideKind.CHOICE, '["new"]').matcher()


def test_dots_stay_within_a_line() -> None:
    text = prepared(Guide(GuideKind.REGEX, r"a.\.[.]")).text
    assert text[0] + text[-5:] == r"a\.[.]"
    for char in (chr(code) for code in (*range(1, 0x3000), 0xE000, 0x1F600, 0x10FFFF)):
        assert bool(re.fullmatch(text, f"a{char}..")) == (char not in "\r\n")


def test_lengths_are_asked_for_by_patterns() -> None:
    text = '{"properties":{"minLength":{"minLength":2},"b":{"maxLength":3,"minLength":4},"c":{"maxLength":0}}}'
    schema = json.loads(prepared(Guide(GuideKind.JSON_SCHEMA, text)).text)["properties"]
    assert schema["minLength"] == {"pattern": "^[ -\ud7ff\ue000-\U0010ffff]{2,}$"}
    assert schema["b"] == {"maxLength": 3, "minLength": 4}  # the compiler refuses it
    assert schema["c"] == {"pattern": "^[ -\ud7ff\ue000-\U0010ffff]{0,0}$"}
    data = '{"enum":[{"minLength":2}],"pattern":"^a$","maxLength":3}'
    assert json.loads(prepared(Guide(GuideKind.JSON_SCHEMA, data)).text) == json.loads(data)


@pytest.mark.parametrize("char", ["[", "[^", "\\", "(", "."])
def test_checks_take_no_time(char: str) -> None:
    pattern, before_s = char * (30_000 // len(char)), time.process_time()
    prepared(Guide(GuideKind.REGEX, pattern))
    with contextlib.suppress(InvalidRequestError):
        prepared(Guide(GuideKind.JSON_SCHEMA, json.dumps({"pattern": pattern})))
    assert time.process_time() - before_s < 1
