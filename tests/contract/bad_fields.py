"""Bad sampling fields, shapes and completions."""

import json
from typing import Any

from serving.rpc.gen.gemmule.v1 import gemmule_pb2 as pb
from tests.contract.bad import INFINITY, LONG, NAN, Bad, completed, field_of, sampled, sampled_prompt, sampling
from tests.contract.faces import a_message

HOW_LOW, HOW_HIGH = "decimal_below_min_value", "decimal_above_max_value"
FEW, MANY = "integer_below_min_value", "integer_above_max_value"


SAMPLED: dict[str, Bad] = {
    "18 NaN penalty": Bad("invalid_value", "presence_penalty", None, sampled(presence_penalty=NAN)),
    "18 infinite penalty": Bad("invalid_value", "repetition_penalty", None, sampled(repetition_penalty=INFINITY)),
    "18 NaN bias": Bad("invalid_value", "logit_bias.5", None, sampled(logit_bias={5: NAN})),
    "19 min_p low": sampling(HOW_LOW, "min_p", -0.1),
    "19 min_p high": sampling(HOW_HIGH, "min_p", 1.1),
    "20 presence low": sampling(HOW_LOW, "presence_penalty", -2.1),
    "20 frequency high": sampling(HOW_HIGH, "frequency_penalty", 2.1),
    "20 repetition 0": sampling(HOW_LOW, "repetition_penalty", 0.0),
    "20 repetition high": sampling(HOW_HIGH, "repetition_penalty", 10.1),
    "24 bias -1": Bad("invalid_value", "logit_bias", {"logit_bias": {"-1": 1}}, sampled(logit_bias={-1: 1})),
    "24 bias 256000": Bad(
        "invalid_value", "logit_bias", {"logit_bias": {"256000": 1}}, sampled(logit_bias={256_000: 1})
    ),
    "24 bias 2^62": Bad("invalid_value", "logit_bias", {"logit_bias": {str(2**62): 1}}, sampled(logit_bias={2**62: 1})),
    "24 bias 2^63": Bad("invalid_value", "logit_bias", {"logit_bias": {str(2**63): 1}}),
    "24 bias abc": Bad("invalid_value", "logit_bias", {"logit_bias": {"abc": 1}}),
    "24 bias 101": Bad("invalid_value", "logit_bias", {"logit_bias": {"5": 101}}, sampled(logit_bias={5: 101})),
    "24 bias a word": Bad("invalid_type", "logit_bias.5", {"logit_bias": {"5": "x"}}),
    "24 biases": Bad(
        "object_above_max_properties",
        "logit_bias",
        {"logit_bias": {str(n): 1 for n in range(301)}},
        sampled(logit_bias=dict.fromkeys(range(301), 1)),
    ),
    "24 stop id high": sampling("invalid_value", "stop_token_ids", [1, 256_000], "stop_token_ids[1]"),
    "24 stop id negative": sampling("invalid_value", "stop_token_ids", [-1], "stop_token_ids[0]"),
    "24 stop ids": sampling("array_above_max_length", "stop_token_ids", [1] * 17),
    "25 top_logprobs -1": sampling(FEW, "top_logprobs", -1),
    "25 top_logprobs 21": sampling(MANY, "top_logprobs", 21),
    "25 top_logprobs alone": sampling("invalid_value", "top_logprobs", 1),
    "25 logprobs a number": Bad("invalid_type", "logprobs", {"logprobs": 5}),
    "26 seed 2^63": Bad(MANY, "seed", {"seed": 2**63}),
    "26 seed below": Bad(FEW, "seed", {"seed": -(2**63) - 1}),
    "26 seed 1.5": Bad("invalid_type", "seed", {"seed": 1.5}),
    "min_tokens -1": sampling(FEW, "min_tokens", -1),
    "min_tokens over max_tokens": Bad(
        "invalid_value", "min_tokens", {"min_tokens": 6, "max_tokens": 5}, sampled(min_tokens=6, max_tokens=5)
    ),
    "min_tokens over the default": sampling("invalid_value", "min_tokens", 513),
    "ignore_eos a number": Bad("invalid_type", "ignore_eos", {"ignore_eos": 1}),
    "21 n 0": field_of(FEW, "n", 0),
    "21 n -1": field_of(FEW, "n", -1),
    "21 n 9": field_of(MANY, "n", 9),
    "21 n 10^9": field_of(MANY, "n", 10**9),
    "priority low": field_of(FEW, "priority", -11),
    "priority high": field_of(MANY, "priority", 11),
    "prompt_lookup a word": Bad("invalid_type", "prompt_lookup", {"prompt_lookup": "yes"}),
    "max_cost 0": field_of(HOW_LOW, "max_cost", 0.0),
    "max_cost low": field_of(HOW_LOW, "max_cost", -1.0),
    "max_cost high": field_of(HOW_HIGH, "max_cost", 1e7),
    "max_cost a word": Bad("invalid_type", "max_cost", {"max_cost": "1"}),
    "max_cost NaN": Bad("invalid_value", "max_cost", None, a_message(max_cost=NAN)),
    "max_cost infinite": Bad("invalid_value", "max_cost", None, a_message(max_cost=INFINITY)),
    "min_quality low": field_of(HOW_LOW, "min_quality", -0.1, model="auto"),
    "min_quality high": field_of(HOW_HIGH, "min_quality", 1.1, model="auto"),
    "min_quality NaN": Bad("invalid_value", "min_quality", None, a_message(min_quality=NAN)),
    "min_quality of a size": field_of("invalid_value", "min_quality", 0.9, model="9b"),
    "allow_fallback a number": Bad("invalid_type", "allow_fallback", {"allow_fallback": 1}),
    "include_sizes a word": Bad("invalid_type", "include_sizes", {"include_sizes": "yes"}),
    "echo of a chat": field_of("unsupported_parameter", "echo", True),
    "prediction long": Bad(
        "context_length_exceeded",
        "prediction.content",
        {"prediction": {"type": "content", "content": LONG}},
        a_message(prediction=pb.Prediction(content=LONG)),
    ),
    "prediction of nothing": Bad(
        "missing_required_parameter",
        "prediction.content",
        {"prediction": {"type": "content"}},
        a_message(prediction=pb.Prediction()),
    ),
    "prediction type": Bad("invalid_value", "prediction.type", {"prediction": {"type": "x", "content": "y"}}),
    "prediction name": Bad(
        "unknown_parameter", "prediction.text", {"prediction": {"type": "content", "content": "y", "text": "z"}}
    ),
}


def of_schema(name: str, schema: Any, code: str = "invalid_value") -> dict[str, Bad]:
    """A schema that is refused wherever it stands."""
    path = "response_format.json_schema.schema"
    written = schema if isinstance(schema, str) else json.dumps(schema)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    message = pb.ResponseFormat(type="json_schema", json_schema=pb.JsonSchema(name="x", schema=written))
    return {
        f"{name}, format": Bad(code, path, {"response_format": wanted}, a_message(response_format=message)),
        f"{name}, guided": Bad(code, "guided_json", {"guided_json": schema}, a_message(guided_json=written)),
    }


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


BOTH = {"guided_regex": "a", "guided_grammar": 'root ::= "a"'}
SHAPED: dict[str, Bad] = {
    **of_schema("27 strange type", {"type": "strange"}),
    **of_schema("27 deep", nested(40)),
    **of_schema("27 properties", {"properties": {f"p{n}": {} for n in range(100_000)}}),
    **of_schema("27 minItems", {"type": "array", "minItems": 10**9}),
    **of_schema("27 not kept", {"type": "array", "uniqueItems": True}),
    **of_schema("27 unknown keyword", {"properties": {"a": {"colour": "red"}}}),
    **of_schema("27 fetched", {"$ref": "http://127.0.0.1:9/x"}),
    **of_schema("27 leads nowhere", {"$ref": "#/$defs/x"}),
    **of_schema("27 pattern", {"type": "string", "pattern": "(?=a)"}),
    **of_schema("no JSON", "{"),
    **of_schema("no object", "[]", "invalid_type"),
    "27 no schema": Bad(
        "missing_required_parameter",
        "response_format.json_schema.schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        a_message(response_format=pb.ResponseFormat(type="json_schema", json_schema=pb.JsonSchema(name="x"))),
    ),
    "27 no json_schema": Bad(
        "missing_required_parameter",
        "response_format.json_schema",
        {"response_format": {"type": "json_schema"}},
        a_message(response_format=pb.ResponseFormat(type="json_schema")),
    ),
    "27 json_schema of text": Bad(
        "invalid_value",
        "response_format.json_schema",
        {"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}},
        a_message(response_format=pb.ResponseFormat(type="text", json_schema=pb.JsonSchema(name="x", schema="{}"))),
    ),
    "27 format unknown": Bad(
        "invalid_value",
        "response_format.type",
        {"response_format": {"type": "xml"}},
        a_message(response_format=pb.ResponseFormat(type="xml")),
    ),
    "27 odd name": Bad(
        "invalid_value",
        "response_format.json_schema.name",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        a_message(
            response_format=pb.ResponseFormat(type="json_schema", json_schema=pb.JsonSchema(name="a b", schema="{}"))
        ),
    ),
    "28 large automaton": field_of("invalid_value", "guided_regex", "(a{1,999}){1,999}"),
    "28 long pattern": field_of("string_above_max_length", "guided_regex", "a" * 1_000_000),
    "28 lookahead": field_of("invalid_value", "guided_regex", "a(?=b)"),
    "28 backreference": field_of("invalid_value", "guided_regex", r"(a)\1"),
    "28 word's edge": field_of("invalid_value", "guided_regex", r"\ba"),
    "28 flags": field_of("invalid_value", "guided_regex", "(?i)a"),
    "28 flags within": field_of("invalid_value", "guided_regex", "a(?i:b)"),
    "28 no pattern": field_of("invalid_value", "guided_regex", "(a"),
    "28 deep": field_of("invalid_value", "guided_regex", "(" * 2000 + ")" * 2000),
    "28 empty": field_of("invalid_value", "guided_regex", ""),
    "29 no root": field_of("invalid_value", "guided_grammar", 'other ::= "a"'),
    "29 long": field_of("string_above_max_length", "guided_grammar", "a" * 70_000),
    "choices": field_of("array_above_max_length", "guided_choice", ["a"] * 257),
    "empty choice": field_of("invalid_value", "guided_choice", ["a", ""], "guided_choice[1]"),
    "no choice": Bad("empty_array", "guided_choice", {"guided_choice": []}),
    "two": Bad("invalid_value", "guided_grammar", BOTH, a_message(**BOTH)),
    "two, one a format": Bad(
        "invalid_value",
        "guided_regex",
        {"response_format": {"type": "json_object"}, "guided_regex": "a"},
        a_message(response_format=pb.ResponseFormat(type="json_object"), guided_regex="a"),
    ),
}
COMPLETED: dict[str, Bad] = {
    "16 max_tokens 0": completed(FEW, "max_tokens", {"max_tokens": 0}, sampled_prompt(max_tokens=0)),
    "21 best_of < n": completed("invalid_value", "best_of", {"n": 3, "best_of": 2}),
    "21 best_of > n": completed("unsupported_parameter", "best_of", {"best_of": 2}),
    "25 logprobs -1": completed(FEW, "logprobs", {"logprobs": -1}, sampled_prompt(logprobs=True, top_logprobs=-1)),
    "25 logprobs 21": completed(MANY, "logprobs", {"logprobs": 21}, sampled_prompt(logprobs=True, top_logprobs=21)),
    "25 logprobs true": completed("invalid_type", "logprobs", {"logprobs": True}),
    "25 top_logprobs": completed(
        "unsupported_parameter", "top_logprobs", {"top_logprobs": 1}, sampled_prompt(top_logprobs=1)
    ),
    "61 suffix": completed("unsupported_parameter", "suffix", {"suffix": "x"}),
    "echo a word": completed("invalid_type", "echo", {"echo": "yes"}),
}
