"""All tools of one trainer: the only way from an agent to the run, and every call is seen."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

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

if TYPE_CHECKING:
    from langchain_core.tools import StructuredTool


OnCall = Callable[[ToolCall, ToolResult, float], None]
_Reading = TypeVar("_Reading", bound=BaseModel)


def ignore_call(call: ToolCall, result: ToolResult, latency_ms: float) -> None:
    """Nobody listens."""


class Toolbox:
    """Tools over history, limits and what-if; write tools stage, and never carry out.

    The typed `read_*` methods are the same tools for agents in plain code.
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
        self._recall = recall
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Other bounds hold from now on, such as of a memory budget that was changed."""
        self.limits = limits
        self.whatif.limits = limits
        self.staging = Staging(limits)
        self._reader = Reader(self.history, limits, self.whatif, self._recall)

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
            result, _ = self._answer(call)
        except ToolError as error:
            result = _refused(call, error)
        self.on_call(call, result, 1e3 * (time.perf_counter() - started))
        return result

    # -- typed, for agents in plain code ---------------------------------------------------

    def read_metrics(self, num_windows: int = 4) -> readings.MetricsReading:
        """The last windows; raises ToolError."""
        return self._read("read_metrics", readings.MetricsReading, num_windows=num_windows)

    def read_buffer_state(self) -> readings.BufferReading:
        """Settings in force; raises ToolError."""
        return self._read("read_buffer_state", readings.BufferReading)

    def read_workload(self) -> readings.WorkloadReading:
        """What the run is; raises ToolError."""
        return self._read("read_workload", readings.WorkloadReading)

    def read_access_profile(self) -> readings.AccessReading:
        """How remote nodes are used; raises ToolError."""
        return self._read("read_access_profile", readings.AccessReading)

    def recall_episodes(self, num_episodes: int = 5) -> readings.RecallReading:
        """Past episodes; raises ToolError."""
        return self._read("recall_episodes", readings.RecallReading, num_episodes=num_episodes)

    def estimate_effect(self, **settings: Argument) -> readings.EstimateReading:
        """What settings would bring, absent ones as in force; raises ToolError."""
        now = self.history.settings
        arguments = {
            **now.model_dump(),
            "replacement_interval": now.replacement_interval or 0,
            "fetch_row_budget": 0,
            "replace_now": False,
            **settings,
        }
        return self._read("estimate_effect", readings.EstimateReading, **arguments)

    # -- for LangChain ---------------------------------------------------------------------

    def langchain_tools(self) -> list[StructuredTool]:
        """The tools for a LangChain model; answers and errors are JSON text."""
        from langchain_core.tools import StructuredTool

        return [
            StructuredTool.from_function(
                func=self._caller(spec.name),
                name=spec.name,
                description=spec.description,
                args_schema=spec.schema(),
                infer_schema=False,
            )
            for spec in self.specs
        ]

    def _caller(self, name: str) -> Callable[..., str]:
        def run(**arguments: Any) -> str:
            return self.call(call_of(name, **arguments)).content

        return run

    # -- how -------------------------------------------------------------------------------

    def _read(self, name: str, kind: type[_Reading], **arguments: Argument) -> _Reading:
        call = call_of(name, **arguments)
        started = time.perf_counter()
        try:
            result, reading = self._answer(call)
        except ToolError as error:
            self.on_call(call, _refused(call, error), 1e3 * (time.perf_counter() - started))
            raise
        self.on_call(call, result, 1e3 * (time.perf_counter() - started))
        assert isinstance(reading, kind)
        return reading

    def _answer(self, call: ToolCall) -> tuple[ToolResult, BaseModel]:
        spec = next((spec for spec in self.specs if spec.name == call.tool), None)
        if spec is None:
            known = ", ".join(spec.name for spec in self.specs)
            raise UnknownToolError("there is no such tool", remedy=f"call one of: {known}")
        arguments = _checked(spec, call)
        if isinstance(arguments, WriteArguments):
            self.staging.stage(call, arguments, settings=self.history.settings)
            staged = readings.StagedReading(knobs=self.staging.knobs, keeps=self.staging.keeps)
            return _done(call, "staged", staged), staged
        reading = self._reading(call.tool, arguments)
        return _done(call, "answered", reading), reading

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
