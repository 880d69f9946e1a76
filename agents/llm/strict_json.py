"""Reads one JSON object out of a model's text, or says what is wrong with it.

Reasoning tags and one code fence around the object are taken off; nothing is searched for inside
prose, nothing is repaired. Python's own reader lets NaN, Infinity, 1e999 and duplicate keys pass;
this one does not.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import MAX_TEXT

_MAX_DIGITS = 20
_REASONING_TAGS = ("think", "thinking", "reasoning")
_FENCE = "```"


def bare(text: str) -> str:
    """The text without leading reasoning blocks and without a code fence around all of it.

    Raises InvalidAnswerError if it is longer than MAX_TEXT. Takes time linear in the text's length.
    """
    if len(text) > MAX_TEXT:
        raise InvalidAnswerError("size", f"longer than {MAX_TEXT} characters")
    text = text.strip()
    for tag in _REASONING_TAGS:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if text.startswith(opening) and closing in text:
            text = text.partition(closing)[2].strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        text = text.partition("\n")[2][: -len(_FENCE)].strip()
    return text


def read_object(text: str) -> dict[str, object]:
    """The one JSON object that `text` is; raises InvalidAnswerError for anything else."""
    if len(text) > MAX_TEXT:
        raise InvalidAnswerError("size", f"longer than {MAX_TEXT} characters")
    _check_encoding(text)
    if not text.strip():
        raise InvalidAnswerError("empty", "there is no answer")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short_int,
        )
    except (ValueError, RecursionError):
        raise InvalidAnswerError("json", "not one JSON object and nothing else") from None
    if not isinstance(value, dict):
        raise InvalidAnswerError("schema", "a JSON object is needed")
    return value


def _check_encoding(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidAnswerError("encoding", "not valid UTF-8") from None
    if "\ufffd" in text or "\x00" in text:
        raise InvalidAnswerError("encoding", "holds characters that stand for damaged bytes")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidAnswerError("duplicate_key", "a key appears twice")
    for key, value in pairs:
        _check_encoding(key)
        if isinstance(value, str):
            _check_encoding(value)
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidAnswerError("number", "NaN and Infinity are not numbers")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidAnswerError("number", "a number is too large")
    return value


def _short_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InvalidAnswerError("number", "a number is too large")
    return int(text)
