"""The OpenAPI document. Bodies are read by us, not by FastAPI, so their schemas are put in here."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.ask import ChatAsk, TextAsk
from serving.profiling import ProfileAsk

_REF: Final = "#/components/schemas/{model}"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "Path of the field, such as messages[0].content."},
                "code": {"type": "string", "description": "A word to test for."},
            },
        }
    },
}
_REFUSALS: Final = {
    400: "The request is wrong; `code` and `param` say where.",
    404: "No such model or address.",
    413: "The body is beyond the limit.",
    415: "The body is not plain JSON.",
    429: "Full; come back after Retry-After.",
    503: "Not ready, or the replica was lost; come back after Retry-After.",
    504: "The deadline passed.",
}


def body_of(*forms: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads one of these forms."""
    named = [{"$ref": _REF.format(model=form.__name__)} for form in forms]
    content = {"application/json": {"schema": named[0] if len(named) == 1 else {"oneOf": named}}}
    return {"requestBody": {"required": True, "content": content}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the ways it refuses."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, with the forms of all request bodies."""
    paths = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    forms: list[tuple[type[BaseModel], Any]] = [(form, "validation") for form in (ChatAsk, TextAsk, ProfileAsk)]
    _, defined = models_json_schema(forms, ref_template=_REF)
    schemas = paths.setdefault("components", {}).setdefault("schemas", {})
    schemas |= defined["$defs"] | {"Error": _ERROR}
    return paths
