"""The answers that a model may give, and how they are read out of a reply."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import Field, ValidationError

from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import MAX_TEXT, JsonObject, Reply, ToolForm
from rudder.tools.catalog import MAX_REASON, Reason, flat_schema, problems
from rudder.training.settings import FrozenExact

# Reads one JSON object out of a model's text, or says what is wrong with it.
#
# Reasoning tags and one code fence around the object are taken off; nothing is searched for inside
# prose, nothing is repaired. Python's own reader lets NaN, Infinity, 1e999 and duplicate keys pass;
# this one does not.


_MAX_DIGITS = 20
_REASONING_TAGS = ("think", "thinking", "reasoning")
_FENCE = "```"
_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_WRAPPERS = ("arguments", "parameters")
"""Where a call that is written as text has its arguments: of Qwen and Hermes, and of Llama."""


def bare(text: str) -> str:
    """The text without leading reasoning blocks and without a code fence around all of it.

    Raises InvalidAnswerError if it is longer than MAX_TEXT. Takes time linear in the text's length.
    """
    if len(text) > MAX_TEXT:
        raise InvalidAnswerError("size", f"longer than {MAX_TEXT} characters")
    text = text.strip()
    for tag in _REASONING_TAGS:
        opening, closing = f"<{tag}>", f"</{tag}>"
        # Some chat templates put the opening tag into the prompt, so that only the end comes.
        is_end_alone = opening not in text and not text.startswith("{")
        if closing in text and (text.startswith(opening) or is_end_alone):
            text = text.partition(closing)[2].strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        text = text.partition("\n")[2][: -len(_FENCE)].strip()
    return text


def read_object(text: str) -> JsonObject:
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


class TypedAnswer(FrozenExact, strict=True):
    """No defaults, nothing extra, no coercion: what is missing or odd is an invalid answer."""


class ObserverAnswer(TypedAnswer):
    """What holds the trainer back, and where it goes."""

    reason: Reason
    bottleneck: Literal["none", "network", "loader", "peers"]
    trend: Literal["better", "steady", "worse"]


class YesNoAnswer(TypedAnswer):
    """Whether to run a replacement round now."""

    reason: Reason
    replace_now: Literal["yes", "no"]


class CriticAnswer(TypedAnswer):
    """A verdict; capacity_rows: of the plan, or smaller to trim it."""

    reason: Reason
    decision: Literal["approve", "trim", "refuse"]
    capacity_rows: Annotated[int, Field(ge=0, le=2**31 - 1)]


A = TypeVar("A", bound=TypedAnswer)


def form_of(answer: type[TypedAnswer], *, name: str) -> ToolForm:
    """An answer as a tool of that name; its schema requires everything."""
    return ToolForm(name=name, description=answer.__doc__ or "", parameters=flat_schema(answer))


def read_calls(reply: Reply, *, names: Sequence[str]) -> list[tuple[str, JsonObject]]:
    """The tools that were called, with their arguments, also where calls were written as text. A
    bare JSON object is a call of the first of `names`. Raises InvalidAnswerError."""
    if reply.finish == "length":
        raise InvalidAnswerError("cut", "it was cut off for its length; answer more briefly")
    if reply.calls:
        return [_call(each.name, each.arguments, names) for each in reply.calls]
    text = bare(reply.text)
    blocks = text.split(_CALL)[1:] if _CALL in text else [text]
    return [_written_call(each.partition(_CALL_END)[0].strip(), names) for each in blocks]


def _call(name: str, arguments: str | None, names: Sequence[str]) -> tuple[str, JsonObject]:
    if name not in names:
        raise InvalidAnswerError(
            "unknown_tool", f"there is no such tool; tools: {', '.join(names)}"
        )
    if arguments is None:
        raise InvalidAnswerError("json", "the arguments must be a JSON object")
    return name, read_object(arguments)


def _written_call(text: str, names: Sequence[str]) -> tuple[str, JsonObject]:
    """`{"name": ..., "arguments": {...}}`, or the arguments alone."""
    found = read_object(text)
    wrapped = next((key for key in _WRAPPERS if key in found), None)
    if wrapped is None or "name" not in found:
        return names[0], found
    arguments = found[wrapped]
    told = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return _call(str(found["name"]), told, names)


def read_answer(reply: Reply, answer: type[A], *, name: str) -> A:
    """A typed answer; raises InvalidAnswerError."""
    calls = read_calls(reply, names=[name])
    if len(calls) > 1:
        raise InvalidAnswerError("number_of_calls", "call one tool, once")
    return validated(answer, calls[0][1])


def validated(model: type[A], content: JsonObject) -> A:
    """Raises InvalidAnswerError("schema") that names the fields, not the values."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InvalidAnswerError("schema", problems(error, known=model.model_fields)) from None


def clean(text: str, *, limit: int = MAX_REASON) -> str:
    """A text as it is kept and shown: printable, on one line, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()
