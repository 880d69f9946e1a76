"""The tools of one trainer, as a model calls them: every call is checked and reported.

Reads answer from history, limits and estimates. Writes only stage a change, which is one
decision's until critic and guard agree.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from rudder.tools import catalog, readings
from rudder.tools.calls import (
    AgentRead,
    ConflictError,
    Effect,
    InvalidArgumentsError,
    NotReadyError,
    OptOf,
    OutOfBoundsError,
    Range,
    ToolCall,
    ToolError,
    ToolResult,
    UnknownToolError,
)
from rudder.tools.constants import MIN_WINDOWS, PRESENT_WINDOWS
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import Means
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change
from rudder.training.workload import Knob

OnCall = Callable[[ToolCall, ToolResult, float], None]
RecallFunction = Callable[[int], Sequence[BaseModel]]


class Staging:
    """Calls of `set` that were accepted; several make one change. The same knob twice is an
    error."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wanted: list[catalog.Set] = []
        self._calls: list[ToolCall] = []
        self.change = Change()

    @property
    def keeps(self) -> bool:
        """Whether things are to be kept, as somebody said."""
        return bool(self._wanted) and self.change.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not self._wanted

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The write calls that were staged, in their order."""
        return tuple(self._calls)

    @property
    def reason(self) -> str:
        """The reasons given, one after the other."""
        return "; ".join(each.reason for each in self._wanted)

    def expected(self, settings: BufferSettings) -> Effect | None:
        """What is expected of all, over the settings in force; of several calls the widest range,
        None where one of the two is not said."""
        rows = [each.expected_rows for each in self._wanted if each.expected_rows is not None]
        wait = [each.expected_wait_ms for each in self._wanted if each.expected_wait_ms is not None]
        if not rows or not wait:
            return None
        capacity = self.change.over(settings).capacity_rows
        return Effect(
            rows_fetched=Range.between(min(rows), max(rows)),
            exposed_wait_ms=Range.between(min(wait), max(wait)),
            buffer_bytes=capacity * self._limits.workload.row_bytes,
        )

    def stage(self, call: ToolCall, wanted: catalog.Set, *, settings: BufferSettings) -> None:
        """Put a call's change to the others; one without knobs adds none.

        Raises ConflictError and OutOfBoundsError, and then nothing is staged.
        """
        change = wanted.change(settings)
        twice = set(_knobs(self.change)) & set(_knobs(change))
        if twice:
            raise ConflictError(
                f"{', '.join(sorted(twice))} is staged already",
                remedy="leave what is staged as it is",
            )
        merged = self.change.model_copy(update={k: getattr(change, k) for k in _knobs(change)})
        if (problem := self._limits.problem(merged, settings=settings)) is not None:
            raise OutOfBoundsError(problem, remedy="call it again with values within")
        self.change = merged
        self._wanted.append(wanted)
        self._calls.append(call)


def _knobs(change: Change) -> tuple[Knob, ...]:
    empty = Change()
    return tuple(each for each in get_args(Knob) if getattr(change, each) != getattr(empty, each))


class Toolbox:
    """History, limits and estimates of one trainer, and the tools over them.

    Models call tools. Agents in plain code read the same answers as values: `read_metrics`, and
    `whatif` for effects; what they read is kept until `take_reads`.
    """

    specs = catalog.SPECS

    def __init__(
        self,
        history: History,
        limits: Limits,
        whatif: WhatIf,
        recall: RecallFunction,
        *,
        on_call: OnCall = lambda call, result, latency_ms: None,
    ) -> None:
        """recall: past episodes, at most so many; on_call: told of every call, its result and how
        many milliseconds it took."""
        self.history, self.whatif, self.recall = history, whatif, recall
        self.hot_rows = 0  # of an earlier run's hot set that the trainer can fetch
        self.on_call = on_call
        self._reads: list[AgentRead] = []
        whatif.on_answer = self._note_estimate
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Other bounds hold from now on, such as of a memory budget that was changed."""
        self.limits = limits
        self.begin()

    def apart(self) -> Toolbox:
        """The same tools, for an inquiry that goes on while others stage changes."""
        return Toolbox(self.history, self.limits, self.whatif, self.recall, on_call=self.on_call)

    def begin(self) -> None:
        """A new decision: what was staged and read is forgotten."""
        self.staging = Staging(self.limits)
        self._reads.clear()

    def take_reads(self) -> tuple[AgentRead, ...]:
        """What agents in plain code have read since this was asked last."""
        reads = tuple(self._reads)
        self._reads.clear()
        return reads

    @property
    def expected(self) -> Effect | None:
        """What the staged calls expect, over the settings in force."""
        return self.staging.expected(self.history.settings)

    def call(self, call: ToolCall) -> ToolResult:
        """Carry out a call as it came; whatever is wrong with it is in the result, as an error."""
        started, num_reads = time.perf_counter(), len(self._reads)
        named = {"call_id": call.call_id, "tool": call.tool}
        try:
            reading = self._answer(call)
            is_staged = isinstance(reading, readings.StagedReading)
            result = ToolResult(
                **named,
                outcome="staged" if is_staged else "answered",
                content=reading.model_dump_json(),
            )
        except ToolError as error:
            told = {"error": error.kind, "message": error.message, "what_to_do": error.remedy}
            result = ToolResult(
                **named, outcome="refused", content=json.dumps(told), error_type=error.kind
            )
        del self._reads[num_reads:]  # it is told of as this call
        self.on_call(call, result, 1e3 * (time.perf_counter() - started))
        return result

    def read_metrics(self, num_windows: int = PRESENT_WINDOWS) -> readings.MetricsReading:
        """What the tool of this name answers; raises NotReadyError."""
        history = self.history
        windows = history.recent(num_windows)
        means, present, noise = Means.of(windows), Means.of(history.present), history.noise
        if means is None or present is None:
            raise _too_early("no window was measured so far")
        reading = readings.MetricsReading.of(
            history,
            means,
            self.whatif,
            noise_rows=noise.rows,
            noise_wait_ms=noise.wait_ms,
            is_noise_measured=noise.is_measured,
            rows_trend=history.trend("rows"),
            wait_trend=history.trend("wait"),
            present=readings.PresentReading.of_means(present, self.whatif.cost),
            windows=readings.WindowReading.each(windows),
            peers=readings.PeerReading.each(windows[-1].peers),
        )
        asked = catalog.ReadMetrics(num_windows=num_windows)
        self._reads.append(AgentRead("read_metrics", asked, reading))
        return reading

    # -- how -------------------------------------------------------------------------------

    def _note_estimate(self, asked: Change | OptOf, effect: Effect) -> None:
        self._reads.append(AgentRead("estimate_effect", asked, effect))

    def _answer(self, call: ToolCall) -> readings.Reading:
        match self._checked(call):
            case catalog.Set() as wanted:
                self.staging.stage(call, wanted, settings=self.history.settings)
                knobs = _knobs(self.staging.change)
                return readings.StagedReading.of(self.staging, knobs=knobs)
            case catalog.ReadMetrics() as wanted:
                return self.read_metrics(wanted.num_windows)
            case catalog.ReadBufferState():
                return self._buffer_state()
            case catalog.ReadWorkload():
                return self._workload()
            case catalog.ReadAccessProfile():
                return self._access_profile()
            case catalog.EstimateEffect() as wanted:
                return self._estimate(wanted.change(self.history.settings))
            case catalog.RecallEpisodes() as wanted:
                found = self.recall(wanted.num_episodes)[: wanted.num_episodes]
                kept = tuple(each.model_dump(mode="json") for each in found)
                return readings.RecallReading(episodes=kept)
            case other:
                raise AssertionError(other)

    def _checked(self, call: ToolCall) -> catalog.Arguments:
        spec = next((spec for spec in self.specs if spec.name == call.tool), None)
        if spec is None:
            known = ", ".join(spec.name for spec in self.specs)
            raise UnknownToolError("there is no such tool", remedy=f"call one of: {known}")
        try:
            return spec.arguments.model_validate(call.arguments)
        except ValidationError as error:
            fields = spec.arguments.model_fields
            problems = catalog.problems(error, known=fields)
            remedy = f"arguments: {', '.join(fields) or 'none'}"
            raise InvalidArgumentsError(problems, remedy=remedy) from None

    def _buffer_state(self) -> readings.BufferReading:
        history, latest = self.history, self.history.latest
        if latest is None:
            raise _too_early("no window was measured so far")
        return readings.BufferReading.of(
            latest,
            latest.rows,
            self.limits,
            history,
            buffer_bytes=latest.settings.capacity_rows * history.workload.row_bytes,
            has_settled=len(history.settled) >= MIN_WINDOWS,
        )

    def _workload(self) -> readings.WorkloadReading:
        history, work = self.history, self.history.workload
        room = self.limits.max_capacity_rows - history.settings.capacity_rows
        ends = {bound.knob: bound for bound in self.limits.bounds}
        bounds = [
            readings.BoundReading.of(ends.get(knob), knob=knob, allowed=work.refusal(knob) is None)
            for knob in get_args(Knob)
        ]
        return readings.WorkloadReading.of(
            work, history, room_bytes=max(room, 0) * work.row_bytes, bounds=tuple(bounds)
        )

    def _access_profile(self) -> readings.AccessReading:
        history, cost = self.history, self.whatif.cost
        trace = history.trace
        if trace is None:
            raise _too_early("no accesses were sampled so far")
        return readings.AccessReading.of(
            trace,
            history,
            sampled_fraction=trace.rate,
            once_only_fraction=readings.once_only_fraction(trace.uses),
            hot_fraction=readings.hot_fraction(trace.uses),
            reuse=readings.ReuseReading.of_trace(trace),
            owners=readings.OwnerReading.each(history.recent(PRESENT_WINDOWS)),
            pull_fixed_ms=None if cost is None else cost.fixed_ms,
            pull_ms_per_row=None if cost is None else cost.ms_per_row,
        )

    def _estimate(self, change: Change) -> readings.EstimateReading:
        settings = self.history.settings
        if (problem := self.limits.problem(change, settings=settings)) is not None:
            raise OutOfBoundsError(problem, remedy="choose values within the bounds")
        changed = self.whatif.effect(change)
        return readings.EstimateReading.of(
            self.whatif,
            fetch=self.whatif.fetch_cost(change, rows_after=changed.rows_fetched.mid),
            changed=changed,
            present=self.whatif.present(),
            opt=self.whatif.opt(change.over(settings).capacity_rows),
        )


def _too_early(problem: str) -> NotReadyError:
    return NotReadyError(problem, remedy="ask again after the next window")
