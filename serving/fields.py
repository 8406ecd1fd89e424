"""Known fields that this service does not do: refused by name, unless the value asks for nothing.

What only one kind of request does (`echo`, `messages`) is refused in the other.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from model.errors import InvalidRequestError
from serving.echo import safe_name

# Name -> values that ask for nothing. null asks for nothing everywhere.
REFUSED: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        # OpenAI
        "audio": (),
        "best_of": (1,),
        "echo": (False,),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "modalities": (["text"],),
        "parallel_tool_calls": (True, False),
        "prompt_cache_retention": (),
        "reasoning_effort": ("none",),
        "service_tier": ("auto", "default"),
        "suffix": ("",),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "verbosity": ("medium",),
        "web_search_options": (),
        # known from other servers
        "continue_final_message": (False,),
        "prompt_logprobs": (),
    }
)
# The same for a turn, as OpenAI's client writes it when an answer is sent back.
REFUSED_IN_TURN: Final[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "annotations": ([],),
        "audio": (),
        "function_call": (),
        "name": (),
        "refusal": (),
        "tool_call_id": (),
        "tool_calls": ([],),
    }
)

# The same for objects within, by the path to their fields.
REFUSED_WITHIN: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = MappingProxyType(
    {"stream_options.": MappingProxyType({"include_obfuscation": (False,)})}
)


def settle_names(
    raw: Mapping[str, Any], done: Iterable[str], refused: Mapping[str, tuple[Any, ...]], where: str = ""
) -> dict[str, Any]:
    """What is left of an object when nulls and refused fields that ask for nothing are dropped.

    Raises `InvalidRequestError`: `unsupported_parameter` for a refused field that asks for something,
    `unknown_parameter` for a name nobody knows, with the nearest known one. `where` is the path of the object.
    """
    known = frozenset(done)
    kept: dict[str, Any] = {}
    for name, value in raw.items():
        if name in known:
            if value is not None:
                kept[name] = value
        elif name not in refused:
            raise _unknown(name, known | refused.keys(), where)
        elif value is not None and not any(_same(value, default) for default in refused[name]):
            raise _unsupported(name, refused[name], where)
    return kept


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, bool) is not isinstance(default, bool):
        return False  # to Python, 1 == True
    return bool(value == default)


def _unknown(name: str, known: Iterable[str], where: str) -> InvalidRequestError:
    path = where + safe_name(name)
    near = get_close_matches(name[:64], sorted(known), n=1)
    hint = f"did you mean {near[0]}?" if near else "remove it"
    return InvalidRequestError("unknown_parameter", path, f"{path}: no such parameter; {hint}")


def _unsupported(name: str, defaults: tuple[Any, ...], where: str) -> InvalidRequestError:
    path = where + name
    allowed = " or ".join(["null", *(repr(default).replace("'", '"') for default in defaults)])
    allowed = allowed.replace("True", "true").replace("False", "false")
    message = f"{path}: not supported here; leave it out or send {allowed}"
    return InvalidRequestError("unsupported_parameter", path, message)
