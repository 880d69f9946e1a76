"""What passes between agents and tools: calls, their results, expected effects, and errors.

RudderError                    of training/errors.py
└── ToolError                  a call that was not carried out
    ├── UnknownToolError       there is no tool of that name
    ├── InvalidArgumentsError  arguments are missing, extra, of another type or not finite
    ├── OutOfBoundsError       a value outside its bounds; nothing is clamped
    ├── ConflictError          the call contradicts one that is staged already
    └── NotReadyError          too little was measured so far to answer
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, model_validator

from rudder.tools.constants import HIDDEN_SHARE, WORTH_WAIT_SHARE
from rudder.training.errors import RudderError
from rudder.training.settings import Frozen, FrozenExact

Argument = str | int | float | bool | list[int] | None


class Range(FrozenExact):
    """A prediction: `low <= mid <= high`."""

    low: float
    mid: float
    high: float

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low <= self.mid <= self.high:
            raise ValueError(
                f"low <= mid <= high does not hold: {self.low}, {self.mid}, {self.high}"
            )
        return self

    @classmethod
    def between(cls, low: float, high: float) -> Range:
        """A range around the middle of its ends."""
        return cls(low=low, mid=min(max((low + high) / 2, low), high), high=high)

    def hull(self, other: Range) -> Range:
        """The smallest range that holds both, around its own middle."""
        return Range.between(min(self.low, other.low), max(self.high, other.high))


Binding = Literal["model", "cores", "all-reduce", "loader", "link"]


class StepTimes(FrozenExact):
    """Where the time of a step goes, in ms; loader and link work while the trainer does.

    wait_ms: the trainer waits for data; model_ms: it computes; core_wait_ms: it could, but others
    have the cores; blocked_ms: it sleeps within the step, as in an all-reduce; loader_ms: of the
    loader's thread for a batch, without waiting; rows_ms: the part of that in which it takes
    fetched rows in; link_ms: rows are under way.
    """

    wait_ms: float
    model_ms: float
    core_wait_ms: float
    blocked_ms: float
    loader_ms: float
    rows_ms: float
    link_ms: float

    @property
    def step_ms(self) -> float:
        """Of the trainer."""
        return self.wait_ms + self.model_ms + self.core_wait_ms + self.blocked_ms

    @property
    def shares_cores(self) -> bool:
        """Whether others have the cores for so long that work besides the model's delays it."""
        return self.core_wait_ms > WORTH_WAIT_SHARE * self.step_ms

    @property
    def slack_ms(self) -> float:
        """For which the link carries no rows."""
        return max(self.step_ms - self.link_ms, 0.0)

    @property
    def binds(self) -> Binding:
        """What makes the step as long as it is."""
        step_ms = self.step_ms
        if self.wait_ms > HIDDEN_SHARE * step_ms:
            return "link" if self.link_ms >= self.loader_ms else "loader"
        if max(self.core_wait_ms, self.blocked_ms) <= WORTH_WAIT_SHARE * step_ms:
            return "model"
        return "cores" if self.core_wait_ms >= self.blocked_ms else "all-reduce"


class Effect(FrozenExact):
    """What settings bring per step of one trainer, once their buffer has filled.

    rows_fetched: rows over the network; exposed_wait_ms: the trainer standing still for data;
    buffer_bytes: memory of the buffer's rows; times: of estimates only.
    """

    rows_fetched: Range
    exposed_wait_ms: Range
    buffer_bytes: int
    times: StepTimes | None = None


class OptOf(FrozenExact):
    """What may be asked in place of a change's effect: that of the best buffer of so many rows."""

    opt_of_capacity_rows: int


class FetchCost(FrozenExact):
    """What an eager fetch costs at once: rows at most, their bytes, and how long a link carries
    them. idle_ms: per step, what the link has left for them; steps: until they have come in that
    time, None: never."""

    rows: int
    num_bytes: int
    link_ms: float
    idle_ms: float
    steps: float | None


@dataclass(frozen=True)
class AgentRead:
    """What an agent in plain code asked of a read tool, and the answer."""

    tool: str
    asked: BaseModel
    answer: BaseModel


class ToolCall(Frozen, extra="forbid"):
    """One call: the tool's name, and its arguments as they came."""

    call_id: str
    tool: str
    arguments: dict[str, Argument]


class ToolResult(FrozenExact):
    """What a call came to: `content` is JSON, the tool's answer or an error to act on.

    outcome: `answered` by a read tool, `staged` by a write tool, `refused` for a wrong call;
    error_type: the `kind` of a ToolError, None without one.
    """

    call_id: str
    tool: str
    outcome: Literal["answered", "staged", "refused"]
    content: str
    error_type: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether nothing was answered or staged."""
        return self.error_type is not None


class ToolError(RudderError):
    """A call that was not carried out: what is wrong, and what to do instead.

    `kind` is what a model and the audit log are shown.
    """

    kind: ClassVar[str] = "tool_error"


class UnknownToolError(ToolError):
    """There is no tool of that name."""

    kind = "unknown_tool"


class InvalidArgumentsError(ToolError):
    """The arguments do not have the tool's form."""

    kind = "invalid_arguments"


class OutOfBoundsError(ToolError):
    """A value that this run does not allow."""

    kind = "out_of_bounds"


class ConflictError(ToolError):
    """The call contradicts one that is staged already."""

    kind = "conflict"


class NotReadyError(ToolError):
    """Too little was measured so far."""

    kind = "not_ready"
