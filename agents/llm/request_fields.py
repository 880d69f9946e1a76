"""The fields of a request, and which of them to leave out for an endpoint that refuses them.

Endpoints that call themselves OpenAI-compatible refuse fields that others need. After a refusal
one field is left out and the question is sent again; what worked is remembered.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

from rudder.agents.llm.messages import JsonObject, Mode, Question

_BOUNDS = ("minimum", "maximum", "maxLength")


def fields_of(question: Question, *, mode: Mode, answer_tokens: int) -> JsonObject:
    """What an endpoint that accepts everything is sent beside the model's name and the messages."""
    fields: JsonObject = {"max_tokens": answer_tokens, "temperature": 0.0}
    if mode == "tools":
        functions = [tool.model_dump() | _strict(tool.parameters) for tool in question.tools]
        fields["tools"] = [{"type": "function", "function": function} for function in functions]
        fields["tool_choice"] = "required"
        fields["parallel_tool_calls"] = False
    elif mode == "structured":
        schema: JsonObject = {"name": "answer", "schema": question.schema_}
        schema |= _strict(question.schema_)
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _strict(schema: JsonObject) -> JsonObject:
    """Strict schemas may leave no field open."""
    return {"strict": True} if schema.get("required") == list(_properties(schema)) else {}


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _without(name: str) -> Callable[[JsonObject], None]:
    def leave_out(fields: JsonObject) -> None:
        fields.pop(name, None)

    return leave_out


def _rename_limit(fields: JsonObject) -> None:
    if "max_tokens" in fields:
        fields["max_completion_tokens"] = fields.pop("max_tokens")


def _without_reasoning(fields: JsonObject) -> None:
    if "tools" in fields:
        fields["reasoning_effort"] = "none"


@dataclass(frozen=True)
class _Change:
    """words: any of them in the server's message points to this change."""

    name: str
    words: tuple[str, ...]
    apply: Callable[[JsonObject], None]
    is_guess: bool = True
    """Whether to try it if the server's message points to no change."""


_CHANGES = (
    _Change(
        "max_completion_tokens for max_tokens",
        ("max_tokens", "max_completion_tokens"),
        _rename_limit,
    ),
    _Change("no temperature", ("temperature",), _without("temperature")),
    _Change("no parallel_tool_calls", ("parallel_tool_calls",), _without("parallel_tool_calls")),
    _Change("no tool_choice", ("tool_choice",), _without("tool_choice")),
    _Change("no strict", ("strict",), lambda fields: _remove(fields, ("strict",))),
    _Change("no bounds in schemas", _BOUNDS, lambda fields: _remove(fields, _BOUNDS)),
    # Newer GPT models refuse tools unless reasoning is off; other endpoints do not know the field.
    _Change("no reasoning", ("reasoning_effort",), _without_reasoning, is_guess=False),
    _Change("no token limit", ("max_completion_tokens",), _without("max_completion_tokens")),
)
"""In the order in which they are tried."""


@dataclass
class RefusedFields:
    """What one endpoint and model refuses, as found out so far."""

    _made: list[_Change] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """The changes that are made, in words."""
        return tuple(change.name for change in self._made)

    def fitted(self, fields: JsonObject) -> JsonObject:
        """The fields as this endpoint accepts them."""
        fitted = copy.deepcopy(fields)
        for change in _CHANGES:
            if change in self._made:
                change.apply(fitted)
        return fitted

    def after(self, words: str, *, fields: JsonObject) -> RefusedFields | None:
        """What to try after a refusal with these words; None if no change is left.

        A change that the words name comes first; of the others, one that changes these fields.
        """
        before = self.fitted(fields)
        guess = None
        for change in _CHANGES:
            tried = RefusedFields([*self._made, change])
            if change in self._made or tried.fitted(fields) == before:
                continue
            if any(re.search(rf"\b{word}\b", words) for word in change.words):
                return tried
            if change.is_guess:
                guess = guess or tried
        return guess


def _remove(value: JsonValue, names: tuple[str, ...]) -> None:
    """Take these keys out of all objects within, but not out of a schema's properties."""
    if isinstance(value, list):
        for each in value:
            _remove(each, names)
    elif isinstance(value, dict):
        for name in names:
            if not isinstance(value.get(name), dict):
                value.pop(name, None)
        for each in value.values():
            _remove(each, names)
