"""The tools of one trainer, as a model calls them: every call is checked and reported."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from rudder.tools import readings
from rudder.tools.calls import Argument, ToolCall, ToolResult
from rudder.tools.catalog import SPECS, ToolSpec
from rudder.tools.controls import EstimateEffect, ReadMetrics, RecallEpisodes, WriteArguments
from rudder.tools.effects import Effect
from rudder.tools.errors import InvalidArgumentsError, ToolError, UnknownToolError
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.reader import Reader, Recall
from rudder.tools.staging import Staging

OnCall = Callable[[ToolCall, ToolResult, float], None]


def ignore_call(call: ToolCall, result: ToolResult, latency_ms: float) -> None:
    """Nobody listens."""


class Toolbox:
    """History, limits and estimates of one trainer, and the tools over them.

    Agents in plain code use `history`, `limits`, `whatif` and `recall`; models call tools. A write
    tool only stages its change.
    """

    specs: tuple[ToolSpec, ...] = SPECS

    def __init__(
        self,
        history: History,
        limits: Limits,
        whatif: WhatIf,
        recall: Recall,
        *,
        on_call: OnCall = ignore_call,
    ) -> None:
        """recall: past episodes, at most so many; on_call: told of every call, its result and how
        many milliseconds it took."""
        self.history, self.whatif = history, whatif
        self.on_call = on_call
        self.recall = recall
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Other bounds hold from now on, such as of a memory budget that was changed."""
        self.limits = limits
        self.staging = Staging(limits)
        self._reader = Reader(self.history, limits, self.whatif, self.recall)

    def begin(self) -> None:
        """A new decision: what was staged is forgotten."""
        self.staging.clear()

    @property
    def expected(self) -> Effect | None:
        """What the staged calls expect, over the settings in force."""
        return self.staging.expected(self.history.settings)

    def call(self, call: ToolCall) -> ToolResult:
        """Carry out a call as it came; whatever is wrong with it is in the result, as an error."""
        started = time.perf_counter()
        try:
            result = self._answer(call)
        except ToolError as error:
            result = _refused(call, error)
        self.on_call(call, result, 1e3 * (time.perf_counter() - started))
        return result

    # -- how -------------------------------------------------------------------------------

    def _answer(self, call: ToolCall) -> ToolResult:
        spec = next((spec for spec in self.specs if spec.name == call.tool), None)
        if spec is None:
            known = ", ".join(spec.name for spec in self.specs)
            raise UnknownToolError("there is no such tool", remedy=f"call one of: {known}")
        arguments = _checked(spec, call)
        if isinstance(arguments, WriteArguments):
            self.staging.stage(call, arguments, settings=self.history.settings)
            staged = readings.StagedReading(knobs=self.staging.knobs, keeps=self.staging.keeps)
            return _done(call, "staged", staged)
        return _done(call, "answered", self._reading(call.tool, arguments))

    def _reading(self, tool: str, arguments: BaseModel) -> BaseModel:
        reader = self._reader
        if isinstance(arguments, ReadMetrics):
            return reader.metrics(arguments.num_windows)
        if isinstance(arguments, RecallEpisodes):
            return reader.episodes(arguments.num_episodes)
        if isinstance(arguments, EstimateEffect):
            return reader.estimate(reader.change_of(arguments))
        plain: dict[str, Callable[[], BaseModel]] = {
            "read_buffer_state": reader.buffer_state,
            "read_workload": reader.workload,
            "read_access_profile": reader.access_profile,
        }
        return plain[tool]()


def call_of(tool: str, **arguments: Argument) -> ToolCall:
    """A call with an id of its own."""
    return ToolCall(call_id=uuid.uuid4().hex, tool=tool, arguments=cast("Any", arguments))


def _checked(spec: ToolSpec, call: ToolCall) -> BaseModel:
    try:
        return spec.arguments.model_validate(call.arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or spec.name}: {each['msg']}" for each in found[:5]
        )
        wanted = ", ".join(spec.arguments.model_fields) or "none"
        raise InvalidArgumentsError(problems, remedy=f"give exactly these: {wanted}") from None


def _done(call: ToolCall, outcome: Any, reading: BaseModel) -> ToolResult:
    return ToolResult(
        call_id=call.call_id, tool=call.tool, outcome=outcome, content=reading.model_dump_json()
    )


def _refused(call: ToolCall, error: ToolError) -> ToolResult:
    told = {"error": error.kind, "message": error.message, "what_to_do": error.remedy}
    return ToolResult(
        call_id=call.call_id,
        tool=call.tool,
        outcome="refused",
        content=json.dumps(told),
        error_type=error.kind,
    )
