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

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.messages import JsonObject, Mode, Question

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def body_of(question: Question, *, mode: Mode, endpoint: Endpoint) -> JsonObject:
    """All that an endpoint without peculiarities is sent, without `endpoint.extra`."""
    roles = {"system": "system", "human": "user"}
    messages: list[JsonValue] = [
        {"role": roles[role], "content": text} for role, text in question.texts(mode)
    ]
    body: JsonObject = {
        "model": endpoint.model,
        "messages": messages,
        "max_tokens": endpoint.answer_tokens,
        "temperature": 0.0,
    }
    if mode == "tools":
        functions = [{**tool.model_dump(), "strict": True} for tool in question.tools]
        body["tools"] = [{"type": "function", "function": function} for function in functions]
        body["tool_choice"] = "required"
        body["parallel_tool_calls"] = False
    elif mode == "structured":
        schema: JsonObject = {"name": "answer", "schema": question.schema_, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _without(name: str) -> Callable[[JsonObject], None]:
    def leave_out(body: JsonObject) -> None:
        body.pop(name, None)

    return leave_out


def _rename_limit(body: JsonObject) -> None:
    if "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")


def _without_reasoning(body: JsonObject) -> None:
    if "tools" in body:
        body["reasoning_effort"] = "none"


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
    _Change("no strict", ("strict",), lambda body: _remove(body, ("strict",))),
    _Change("no number bounds", _BOUNDS, lambda body: _remove(body, _BOUNDS)),
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

    def fitted(self, body: JsonObject) -> JsonObject:
        """The body as this endpoint accepts it."""
        fitted = copy.deepcopy(body)
        for change in _CHANGES:
            if change in self._made:
                change.apply(fitted)
        return fitted

    def after(self, words: str, *, body: JsonObject) -> RefusedFields | None:
        """What to try after a refusal with these words; None if no change is left.

        A change that the words name comes first; of the others, one that changes this body.
        """
        before = self.fitted(body)
        left = [change for change in _CHANGES if change not in self._made]
        tries = [RefusedFields([*self._made, change]) for change in left]
        useful = [
            (any(re.search(rf"\b{word}\b", words) for word in change.words), change.is_guess, each)
            for change, each in zip(left, tries, strict=True)
            if each.fitted(body) != before
        ]
        named = [each for is_named, _, each in useful if is_named]
        guesses = [each for _, is_guess, each in useful if is_guess]
        return next(iter([*named, *guesses]), None)


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
