"""Which regular expressions and JSON schemas may hold an answer."""

import re
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.json_schema import MAX_DEPTH, check_schema
from serving.regex import MAX_STATES, UnfitError, check_regex


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "^[0-9]{3}-[0-9]{4}$", r"\d+(\.\d+)?", "(?:yes|no)", "(?P<name>a)b", "[^x]*?", "é☃", r"\(\)",
        r"\A[a-z]\Z", "a{0,1000}", "a|", "[[]", r"\w\s\D",
    ],
)  # fmt: skip
def test_expressions_that_are_taken(pattern: str) -> None:
    check_regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(?!b)", "looks ahead"), ("(?<=a)b", "looks ahead or behind"), ("(?<!a)b", "behind"), (r"(a)\1", "refers"),
        ("(?P<a>x)(?P=a)", "refers"), ("(a)?(?(1)b|c)", "depends"), ("(?>a)", "atomic"), ("a++", "possessively"),
        (r"a\b", "word's edge"), ("(?i)a", "flags"), ("a(?x: b )", "flags"), ("(a", "character 0"), ("*", "repeat"),
        ("a{2,1}", "no regular expression"), ("(a{1,999}){1,999}", str(MAX_STATES)),
        ("((a{99}){99}){99}", "repeat less"),
        ("a{99999999999}", "repeats too often"), ("(" * 1500 + ")" * 1500, "nested too deep"),
        ("a" * 5000, "4096"),
    ],
)  # fmt: skip
def test_expressions_that_are_not(pattern: str, why: str) -> None:
    with pytest.raises(UnfitError, match=re.escape(why)):
        check_regex(pattern)


@given(st.text(alphabet="ab(){}[]|*+?\\^$1,:=!<.-", max_size=40))
def test_any_text_is_taken_or_refused(pattern: str) -> None:
    with suppress(UnfitError):
        check_regex(pattern)


SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": ["string", "null"], "title": "T", "description": "d", "default": None},
    {"type": "object", "properties": {"type": {"type": "integer", "minimum": 0}, "not": {}}, "required": ["not"]},
    {"type": "array", "items": {"enum": [1, "a", None]}, "minItems": 1, "maxItems": 3.0, "uniqueItems": False},
    {"$defs": {"node": {"anyOf": [{"$ref": "#/$defs/node"}, {"const": 1}]}}, "$ref": "#/$defs/node", "title": "x"},
    {"properties": {"a/b": {"$ref": "#/properties/c~1d"}, "c/d": True}, "additionalProperties": False},
    {"patternProperties": {"^a+$": {"type": "string", "pattern": "b*", "format": "date"}}},
    {"prefixItems": [{"type": "number"}], "items": False, "allOf": [{"type": "array"}]},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_schemas_that_are_taken(schema: dict[str, Any]) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "str"}, "at type: got 'str'"), ({"type": []}, "at type"), ({"type": ["string", 1]}, "at type"),
        ({"properties": []}, "at properties"), ({"properties": {"a": 1}}, "at properties.a: got 1"),
        ({"items": [{}]}, "at items"), ({"enum": []}, "at enum"), ({"anyOf": []}, "at anyOf"),
        ({"anyOf": [{"type": "x"}]}, "at anyOf[0].type"), ({"required": "a"}, "at required"),
        ({"minLength": -1}, "at minLength"), ({"maxItems": 1e300}, "at maxItems"), ({"maxItems": 1.5}, "at maxItems"),
        ({"maxItems": True}, "at maxItems"), ({"minimum": "1"}, "at minimum"), ({"pattern": 5}, "at pattern"),
        ({"pattern": "(?=a)"}, "looks ahead"), ({"patternProperties": {"(": {}}}, "at patternProperties"),
        ({"$ref": "#/a"}, "at $ref"), ({"$ref": "other.json"}, "at $ref"), ({"$ref": 5}, "at $ref"),
        ({"$ref": "#", "minItems": 1}, "beside $ref"), ({"allOf": [{}, {}]}, "as one"), ({"not": {}}, "at not"),
        ({"if": {}}, "at if"), ({"uniqueItems": True}, "at uniqueItems"), ({"multipleOf": 2}, "at multipleOf"),
        ({"x-mine": 1}, "at x-mine"), ({"a" * 200: 1}, "..."), ({"description": "d" * 70_000}, "65536"),
        ({"const": "\ud800"}, "surrogate"),
    ],
)  # fmt: skip
def test_schemas_that_are_not(schema: dict[str, Any], where: str) -> None:
    with pytest.raises(UnfitError, match=re.escape(where)) as caught:
        check_schema(schema)
    assert len(str(caught.value)) < 350


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        schema = {"items": schema}
    check_schema(schema)
    with pytest.raises(UnfitError, match="deeper"):
        check_schema({"items": schema})


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "items", "properties", "anyOf", "$ref", "enum", "minItems"]), inner)
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["items", "anyOf", "properties", "$ref", "required", "maxLength"]), json))
def test_any_object_is_taken_or_refused(schema: dict[str, Any]) -> None:
    with suppress(UnfitError):
        check_schema(schema)


def test_the_largest_are_checked_in_no_time() -> None:
    began = time.process_time()
    check_schema({"properties": {f"p{n}": {} for n in range(5000)}})
    check_regex("(a|b)" * 800)
    with pytest.raises(UnfitError):
        check_schema({"properties": {f"p{n}": {} for n in range(100_000)}})
    assert time.process_time() - began < 1
