"""The tools as a model is offered them: `set`, which is staged, and what it may look up before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import JsonValue, ValidationError

from rudder.agents.llm.answers import clean, read_calls
from rudder.agents.llm.errors import InvalidAnswerError, InvalidKind
from rudder.agents.llm.messages import JsonObject, Reply, ToolForm
from rudder.tools.calls import ToolCall, ToolResult
from rudder.tools.catalog import SPECS, ToolSpec
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import FrozenExact
from rudder.training.workload import Knob

SET = "set"
LOOK_UPS = ("estimate_effect", "read_metrics", "read_access_profile")
"""Read tools whose answers the prompt does not have, and nobody else's words."""
MAX_LOOK_UPS = 3
"""Read calls about one observation."""
_MAX_ANSWER = 700
"""Characters of a look-up's answer in a prompt: all of an estimate, two windows of metrics."""
_KNOBS: dict[str, Knob] = {each: each for each in get_args(Knob)}
_KNOBS |= {"fetch_row_budget": "fetch_targets"}
"""What an argument sets."""
_KINDS: dict[str, InvalidKind] = {
    "out_of_bounds": "limits",
    "conflict": "limits",
    "unknown_tool": "unknown_tool",
}
_MAX_COMPLAINT = 300


class LookUp(FrozenExact):
    """A read tool's answer to a model, as far as it fits into a prompt."""

    call: str
    answer: str


def set_form(limits: Limits) -> ToolForm:
    """`set` with the knobs that this run's policy has, and this run's limits."""
    return _form(_spec(SET), limits)


def look_up_forms(limits: Limits) -> tuple[ToolForm, ...]:
    """The read tools that a model may call before it decides."""
    return tuple(_form(_spec(name), limits) for name in LOOK_UPS)


def look_ups(reply: Reply, forms: Sequence[ToolForm], toolbox: Toolbox) -> tuple[LookUp, ...]:
    """Answers to the read calls of a reply, which are reported as all calls are; none where it
    calls `set`. Raises InvalidAnswerError."""
    calls = read_calls(reply, names=[form.name for form in forms])
    if any(name == SET for name, _ in calls):
        return ()
    return tuple(
        _look_up(name, content, toolbox, call_id=f"look-up-{number}")
        for number, (name, content) in enumerate(calls[:MAX_LOOK_UPS])
    )


def _look_up(name: str, content: JsonObject, toolbox: Toolbox, *, call_id: str) -> LookUp:
    """An answer to arguments that were found right, which are shown again beside it."""
    result = toolbox.call(_call(name, content, call_id=call_id))
    if result.is_error:
        raise _complaint(result)
    told = ", ".join(f"{key} {json.dumps(value)}" for key, value in content.items())
    return LookUp(call=f"{name}({told})", answer=result.content[:_MAX_ANSWER])


def stage(reply: Reply, toolbox: Toolbox, *, call_id: str) -> None:
    """Read a reply and stage what it sets, and nothing else; raises InvalidAnswerError, and then
    nothing is staged. Several calls make one change."""
    toolbox.begin()
    wanted = [content for name, content in read_calls(reply, names=[SET, *LOOK_UPS]) if name == SET]
    if not wanted:
        raise InvalidAnswerError("unknown_tool", f"call {SET} now")
    for content in wanted:
        result = toolbox.call(_call(SET, content, call_id=call_id))
        if result.is_error:
            toolbox.begin()
            raise _complaint(result)


def _call(tool: str, content: JsonObject, *, call_id: str) -> ToolCall:
    try:
        return ToolCall.model_validate({"call_id": call_id, "tool": tool, "arguments": content})
    except ValidationError:
        raise InvalidAnswerError("schema", "an argument is neither number nor text") from None


def _complaint(result: ToolResult) -> InvalidAnswerError:
    kind = _KINDS.get(result.error_type or "", "schema")
    message = str(json.loads(result.content).get("message", "the call was refused"))
    return InvalidAnswerError(kind, clean(message, limit=_MAX_COMPLAINT))


def _spec(name: str) -> ToolSpec:
    return next(spec for spec in SPECS if spec.name == name)


def _form(spec: ToolSpec, limits: Limits) -> ToolForm:
    schema = spec.schema()
    properties: JsonObject = dict(_properties(schema["properties"], limits))
    return ToolForm(
        name=spec.name,
        # What a knob costs stands in the prompt; the first sentence says what the tool does.
        description=spec.description.partition(". ")[0] + ".",
        parameters={**schema, "properties": properties},
    )


def _properties(fields: JsonObject, limits: Limits) -> Iterator[tuple[str, JsonValue]]:
    highs: dict[str, float] = {bound.knob: bound.high for bound in limits.bounds}
    highs["fetch_row_budget"] = limits.max_capacity_rows
    for name, value in fields.items():
        assert isinstance(value, dict)
        knob, high = _KNOBS.get(name), highs.get(name)
        if knob is not None and limits.workload.refusal(knob) is not None:
            continue
        if high is not None:
            value = {**value, "maximum": int(high) if value["type"] == "integer" else high}
        elif name.startswith("expected_"):
            value = {k: v for k, v in value.items() if k != "maximum"}
        yield name, value
