"""Changes that are asked for and not carried out: one decision's, until critic and guard agree."""

from __future__ import annotations

from rudder.tools.calls import ToolCall
from rudder.tools.controls import WriteArguments
from rudder.tools.effects import Effect, Range
from rudder.tools.errors import ConflictError, OutOfBoundsError
from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change
from rudder.training.workload import Knob


class Staging:
    """Several knobs make one change; the same knob twice, or next to `keep`, is an error."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.clear()

    def clear(self) -> None:
        """Forget all; the next decision begins."""
        self._change = Change()
        self._keeps = False
        self._expected: tuple[Range, Range] | None = None
        self._reasons: list[str] = []
        self._calls: list[ToolCall] = []

    @property
    def change(self) -> Change:
        """All staged knobs; empty where nothing is staged, or things are to be kept."""
        return self._change

    @property
    def keeps(self) -> bool:
        """Whether `keep_current` was called."""
        return self._keeps

    @property
    def is_empty(self) -> bool:
        """Whether no write tool was called with success."""
        return not self._calls

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The write calls that were staged, in their order."""
        return tuple(self._calls)

    @property
    def reason(self) -> str:
        """The reasons given, one after the other."""
        return "; ".join(self._reasons)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What would be changed."""
        return knobs_of(self._change)

    def expected(self, settings: BufferSettings) -> Effect | None:
        """The expected effect of all, over the settings in force; of several the widest range."""
        if self._expected is None:
            return None
        rows, wait_ms = self._expected
        capacity = self._change.over(settings).capacity_rows
        return Effect(
            rows_fetched=rows,
            exposed_wait_ms=wait_ms,
            buffer_bytes=capacity * self._limits.workload.row_bytes,
        )

    def stage(self, call: ToolCall, wanted: WriteArguments, *, settings: BufferSettings) -> None:
        """Put a call's change to the others; an empty one means that things are to be kept.

        Raises ConflictError and OutOfBoundsError, and then nothing is staged.
        """
        change = wanted.change()
        if (conflict := self._conflict(change)) is not None:
            raise ConflictError(conflict, remedy="leave what is staged as it is")
        merged = _merged(self._change, change)
        problem = self._limits.problem(merged, settings=settings)
        if problem is not None:
            raise OutOfBoundsError(problem, remedy="call it again with values within")
        self._change = merged
        self._keeps = change.is_empty
        self._expected = _widest(self._expected, (wanted.expected_rows, wanted.expected_wait_ms))
        self._reasons.append(wanted.reason)
        self._calls.append(call)

    def _conflict(self, wanted: Change) -> str | None:
        if self._keeps:
            return "keep_current is staged, so nothing else can be"
        if wanted.is_empty and self._calls:
            return f"{', '.join(self.knobs)} staged already, so things cannot be kept"
        twice = set(self.knobs) & set(knobs_of(wanted))
        return f"{', '.join(sorted(twice))} is staged already" if twice else None


def knobs_of(change: Change) -> tuple[Knob, ...]:
    """The knobs that a change touches."""
    knobs: tuple[Knob, ...] = (
        "capacity_rows",
        "eviction_threshold",
        "lookahead_batches",
        "replacement_interval",
        "fetch_targets",
        "replace_now",
    )
    values = {knob: getattr(change, knob) for knob in knobs}
    return tuple(knob for knob in knobs if values[knob] is not None and values[knob] is not False)


def _merged(staged: Change, wanted: Change) -> Change:
    return staged.model_copy(update={knob: getattr(wanted, knob) for knob in knobs_of(wanted)})


def _widest(old: tuple[Range, Range] | None, new: tuple[Range, Range]) -> tuple[Range, Range]:
    if old is None:
        return new
    return _hull(old[0], new[0]), _hull(old[1], new[1])


def _hull(one: Range, other: Range) -> Range:
    low, high = min(one.low, other.low), max(one.high, other.high)
    return Range(low=low, mid=min(max((low + high) / 2, low), high), high=high)
