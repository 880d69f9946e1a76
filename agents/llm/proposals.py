"""The write tools as a model is offered them, and its call staged."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue, ValidationError

from rudder.agents.llm.answers import clean, plain_schema, read_call
from rudder.agents.llm.errors import InvalidAnswerError, InvalidKind
from rudder.agents.llm.messages import JsonObject, Reply, ToolForm
from rudder.tools.calls import ToolCall, ToolResult
from rudder.tools.catalog import ToolSpec
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.workload import Knob

CHOICE = "tool"
"""Where the answer is one object, the field that names the tool."""
_FETCH = "set_fetch_targets"
_KNOBS: dict[str, Knob] = {
    "set_buffer_capacity": "capacity_rows",
    "set_eviction_threshold": "eviction_threshold",
    "set_lookahead": "lookahead_batches",
    "set_replacement_interval": "replacement_interval",
    _FETCH: "fetch_targets",
    "replace_now": "replace_now",
}
_NOT_OFFERED: dict[str, object] = {"ids": []}
"""Arguments that no model can know, and what they are set to."""
_SOURCES: list[JsonValue] = ["observed", "degree", "vip", "owner"]
_KINDS: dict[str, InvalidKind] = {
    "out_of_bounds": "limits",
    "conflict": "limits",
    "unknown_tool": "unknown_tool",
}
_MAX_COMPLAINT = 300


def offered(limits: Limits) -> tuple[ToolForm, ...]:
    """The write tools that this run's policy has a use for, with this run's limits."""
    return tuple(_form(spec, limits) for spec in Toolbox.specs if _is_of_use(spec, limits))


def choice_schema(forms: tuple[ToolForm, ...]) -> JsonObject:
    """All tools as one flat object: `tool`, and everything that any of them needs."""
    properties: dict[str, JsonValue] = {}
    for form in forms:
        properties |= _fields(form)
    names: list[JsonValue] = [form.name for form in forms]
    choice: JsonValue = {
        "type": "string",
        "enum": names,
        "description": "what to do; fields that it does not need are ignored, whatever they hold",
    }
    return plain_schema({"properties": {CHOICE: choice, **properties}})


def stage(reply: Reply, forms: tuple[ToolForm, ...], toolbox: Toolbox, *, call_id: str) -> None:
    """Read a reply and stage its call, and nothing else; raises InvalidAnswerError, and then
    nothing is staged."""
    toolbox.begin()
    names = [form.name for form in forms]
    name, content = read_call(reply, names=names)
    if name is None:
        name, content = _chosen(content, forms)
    if name == _FETCH:
        content = {**content, **_NOT_OFFERED}
    try:
        call = ToolCall.model_validate({"call_id": call_id, "tool": name, "arguments": content})
    except ValidationError:
        raise InvalidAnswerError("schema", "an argument is neither number nor text") from None
    result = toolbox.call(call)
    if result.is_error:
        raise _complaint(result)


def _chosen(
    content: dict[str, object], forms: tuple[ToolForm, ...]
) -> tuple[str, dict[str, object]]:
    name = content.get(CHOICE)
    form = next((form for form in forms if form.name == name), None)
    if form is None:
        reason = f"{CHOICE} must be one of: {', '.join(form.name for form in forms)}"
        raise InvalidAnswerError("unknown_tool", reason)
    known = {CHOICE}.union(*(_fields(each) for each in forms))
    if not set(content) <= known:
        raise InvalidAnswerError("schema", "there are fields that the schema does not have")
    own = _fields(form)
    return form.name, {key: value for key, value in content.items() if key in own}


def _fields(form: ToolForm) -> JsonObject:
    properties = form.parameters["properties"]
    assert isinstance(properties, dict)
    return properties


def _complaint(result: ToolResult) -> InvalidAnswerError:
    kind = _KINDS.get(result.error_type or "", "schema")
    message = str(json.loads(result.content).get("message", "the call was refused"))
    return InvalidAnswerError(kind, clean(message, limit=_MAX_COMPLAINT))


def _is_of_use(spec: ToolSpec, limits: Limits) -> bool:
    if spec.kind != "write":
        return False
    knob = _KNOBS.get(spec.name)
    return knob is None or limits.workload.refusal(knob) is None


def _form(spec: ToolSpec, limits: Limits) -> ToolForm:
    properties = dict(_properties(spec, limits))
    return ToolForm(
        name=spec.name,
        # What a knob costs stands in the prompt; the first sentence says what the tool does.
        description=spec.description.partition(". ")[0] + ".",
        parameters=plain_schema({"properties": properties}),
    )


def _properties(spec: ToolSpec, limits: Limits) -> Iterator[tuple[str, JsonValue]]:
    highs = {bound.knob: bound.high for bound in limits.bounds}
    for name, value in spec.schema()["properties"].items():
        if name in _NOT_OFFERED:
            continue
        high = highs.get(name)
        if name == "source":
            value = {**value, "enum": _SOURCES}
        elif high is not None:
            value = {**value, "maximum": int(high) if value["type"] == "integer" else high}
        elif name.startswith("expected_"):
            value = {"type": value["type"], "minimum": 0}
        yield name, value
