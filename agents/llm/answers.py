"""The answers that a model may give, and how they are read out of a reply."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.llm.messages import JsonObject, Reply, ToolForm
from rudder.agents.llm.strict_json import bare, read_object

MAX_REASON = 300
_MAX_PROBLEMS = 3
_NOT_FOR_ENDPOINTS = {"title", "maxLength", "minLength", "default"}
"""Schema words that say nothing to a model, or that strict endpoints refuse."""


class _Answer(BaseModel):
    """No defaults, nothing extra, no coercion: what is missing or odd is an invalid answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ObserverAnswer(_Answer):
    """What holds the trainer back, and where it goes."""

    bottleneck: Literal["none", "network", "loader", "peers"]
    trend: Literal["better", "steady", "worse"]
    reason: Annotated[str, Field(max_length=MAX_REASON)]


class CriticAnswer(_Answer):
    """A verdict; capacity_rows: of the plan, or smaller to trim it."""

    decision: Literal["approve", "trim", "refuse"]
    capacity_rows: Annotated[int, Field(ge=0, le=2**31 - 1)]
    reason: Annotated[str, Field(max_length=MAX_REASON)]


A = TypeVar("A", bound=_Answer)


def form_of(answer: type[_Answer], *, name: str) -> ToolForm:
    """An answer as a tool of that name."""
    return ToolForm(name=name, description=answer.__doc__ or "", parameters=schema_of(answer))


def schema_of(answer: type[BaseModel]) -> JsonObject:
    """The JSON schema, flat and without what strict endpoints refuse."""
    return plain_schema(answer.model_json_schema())


def plain_schema(schema: JsonObject) -> JsonObject:
    """An object schema with its own properties only, and none of `_NOT_FOR_ENDPOINTS`."""
    properties = schema.get("properties")
    assert isinstance(properties, dict)
    return {
        "type": "object",
        "properties": {name: _plain(value) for name, value in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def _plain(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in _NOT_FOR_ENDPOINTS}
    return value


def read_call(reply: Reply, *, names: Collection[str]) -> tuple[str | None, dict[str, object]]:
    """The one tool that was called and its arguments; None and the object where the answer is a
    JSON object in text. Raises InvalidAnswerError."""
    if reply.finish == "length":
        raise InvalidAnswerError("cut", "it was cut off for its length; answer more briefly")
    if len(reply.calls) > 1:
        raise InvalidAnswerError("number_of_calls", "call one tool, not several")
    if not reply.calls:
        return None, read_object(bare(reply.text))
    call = reply.calls[0]
    if call.name not in names:
        raise InvalidAnswerError(
            "unknown_tool", f"there is no such tool; tools: {', '.join(names)}"
        )
    if call.arguments is None:
        raise InvalidAnswerError("json", "the arguments must be a JSON object")
    return call.name, read_object(call.arguments)


def read_answer(reply: Reply, answer: type[A], *, name: str) -> A:
    """A typed answer; raises InvalidAnswerError."""
    _, content = read_call(reply, names=[name])
    return validated(answer, content)


def validated(model: type[A], content: dict[str, object]) -> A:
    """Raises InvalidAnswerError("schema") that names the fields, not the values."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InvalidAnswerError("schema", problems(error, known=model.model_fields)) from None


def problems(error: ValidationError, *, known: Collection[str]) -> str:
    """What is wrong with which field; fields that are not known are not named."""
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[
        :_MAX_PROBLEMS
    ]:
        field = str(each["loc"][0]) if each["loc"] else "answer"
        found.append(f"{field if field in known else 'a field'}: {each['type']}")
    return "; ".join(found)


def clean(text: str, *, limit: int = MAX_REASON) -> str:
    """A text as it is kept and shown: printable, on one line, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()
