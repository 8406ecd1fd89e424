"""A validated ask -> token ids, checked against context and vocabulary before any engine hears of them."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from model.config import CONTEXT_TOKENS
from model.errors import InvalidRequestError
from model.prompt import Prompter, Role
from serving.ask import CHAT_DEFAULT_TOKENS, TEXT_DEFAULT_TOKENS, Ask, ChatAsk
from serving.turns import joined

_OFF_LOOP_CHARACTERS: Final = 20_000  # some 5 ms of encoding, which others on the loop would notice


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, how long the answer may be, and what routing wants to know."""

    token_ids: tuple[int, ...]
    max_tokens: int
    last_user_text: str
    num_turns: int


async def prompt_of(ask: Ask, prompter: Prompter) -> Prompt:
    """Encode the ask; raises `InvalidRequestError` (`context_length_exceeded`, or a turn or id that does not fit).

    Text that cannot fit whatever its tokens are is refused by its length alone, so that megabytes cost nothing. Long
    text is encoded in a thread.
    """
    if isinstance(ask, ChatAsk):
        turns = ask.turns
        num_characters = sum(len(turn.text.strip()) for turn in turns)
        _refuse_by_length("messages", num_characters, prompter)
        ids = await _encoded(lambda: prompter.chat(turns), num_characters)
        asked = [turn.text for turn in turns if turn.role is Role.USER]
        return _fitted("messages", ids, ask.max_tokens, CHAT_DEFAULT_TOKENS, asked[-1], len(asked))
    if ask.text is None:
        path, given = ask.ids
        if len(given) >= CONTEXT_TOKENS:
            raise _too_long(path, str(len(given)))
        check_ids(path, given, prompter.vocabulary)
        return _fitted(path, tuple(given), ask.max_tokens, TEXT_DEFAULT_TOKENS, "", 1)
    text = ask.text
    _refuse_by_length("prompt", len(text), prompter)
    ids = await _encoded(lambda: prompter.encode(text), len(text))
    return _fitted("prompt", ids, ask.max_tokens, TEXT_DEFAULT_TOKENS, text, 1)


async def draft_of(ask: Ask, prompter: Prompter) -> tuple[int, ...]:
    """Token ids of the ask's prediction; raises `InvalidRequestError` when no answer could be so long."""
    if ask.prediction is None:
        return ()
    path, text = "prediction.content", joined(ask.prediction.content)
    _refuse_by_length(path, len(text), prompter)
    _, *ids = await _encoded(lambda: prompter.encode(text), len(text))  # the first is `<bos>`
    if len(ids) >= CONTEXT_TOKENS:
        raise _too_long(path, str(len(ids)))
    return tuple(ids)


def check_ids(path: str, ids: Iterable[int], vocabulary: int) -> None:
    """Raises `InvalidRequestError` with the place of the first id that is none."""
    for index, token_id in enumerate(ids):
        if not 0 <= token_id < vocabulary:
            where = f"{path}[{index}]"
            what = f"{where}: got {token_id}, ids are 0 to {vocabulary - 1}; choose one of them"
            raise InvalidRequestError("invalid_value", where, what)


async def _encoded(encode: Callable[[], tuple[int, ...]], num_characters: int) -> tuple[int, ...]:
    return encode() if num_characters <= _OFF_LOOP_CHARACTERS else await asyncio.to_thread(encode)


def _fitted(
    path: str, ids: tuple[int, ...], wanted: int | None, default: int, last_user_text: str, num_turns: int
) -> Prompt:
    left = CONTEXT_TOKENS - len(ids)
    if left <= 0:
        raise _too_long(path, f"{len(ids)}")
    if wanted is not None and wanted > left:
        what = (
            f"max_tokens: prompt of {len(ids)} tokens and max_tokens {wanted} make {len(ids) + wanted}, the limit is "
            f"{CONTEXT_TOKENS}; shorten the prompt or lower max_tokens to {left}"
        )
        raise InvalidRequestError("context_length_exceeded", "max_tokens", what)
    most = min(default, left) if wanted is None else max(1, wanted)  # an engine makes one token at least
    return Prompt(ids, most, last_user_text, num_turns)


def _refuse_by_length(path: str, num_characters: int, prompter: Prompter) -> None:
    if (fewest := prompter.at_least(num_characters)) >= CONTEXT_TOKENS:
        raise _too_long(path, f"at least {fewest}")


def _too_long(path: str, num_tokens: str) -> InvalidRequestError:
    name = path.partition(".")[0] if path.startswith("prediction") else "prompt"
    what = f"{path}: {name} is {num_tokens} tokens, the limit is {CONTEXT_TOKENS} with the answer; shorten it"
    return InvalidRequestError("context_length_exceeded", path, what)
