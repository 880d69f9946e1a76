"""What a process of a run tells its launcher: one JSON object a line, on standard output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rudder.training.checkpoint.format import Written
from rudder.training.metrics import EpochMetrics, Evaluation, Memory, RankReport, Window
from rudder.training.settings import Frozen


class PhaseEntered(Frozen):
    """A process has begun a phase; the last one shows where a silent process has stopped.

    share: of its work that is done, 0 to 1, where that is known.
    """

    kind: Literal["phase"] = "phase"
    role: Literal["server", "trainer"]
    rank: int
    phase: Literal["starting", "connected", "training", "evaluating", "finished"]
    share: float | None = None


class BufferMade(Frozen):
    """A trainer has made its buffer; how large it is, and what it might take."""

    kind: Literal["buffer"] = "buffer"
    rank: int
    memory: Memory


class Progress(Frozen):
    """Where a rank stands, told with every window and about once a second; window: the one that
    has just ended."""

    kind: Literal["progress"] = "progress"
    rank: int
    epoch: int
    steps_in_epoch: int
    step_in_epoch: int
    window: Window | None = None


class LossWentWrong(Frozen):
    """A rank's loss is NaN or infinite, or has exploded; sent the first time only.

    loss: as text, as JSON has no NaN; action: what becomes of this step.
    """

    kind: Literal["loss"] = "loss"
    rank: int
    epoch: int
    step: int
    loss: str
    action: str


class EpochDone(Frozen):
    """An epoch is done."""

    kind: Literal["epoch"] = "epoch"
    rank: int
    metrics: EpochMetrics


class Evaluated(Frozen):
    """The model was evaluated; only rank 0 sends it."""

    kind: Literal["evaluated"] = "evaluated"
    evaluation: Evaluation


class Reported(Frozen):
    """A trainer has finished; its report."""

    kind: Literal["report"] = "report"
    report: RankReport


class CheckpointWritten(Frozen):
    """A checkpoint is complete, or could not be written; only rank 0 sends it."""

    kind: Literal["checkpoint"] = "checkpoint"
    written: Written


class Stopped(Frozen):
    """A trainer has ended before the run's end because it was told to.

    written: the last checkpoint, on rank 0 alone.
    """

    kind: Literal["stopped"] = "stopped"
    rank: int
    written: Written | None = None


class Failed(Frozen):
    """A process has failed, with an error that a user can act on."""

    kind: Literal["failed"] = "failed"
    role: Literal["server", "trainer"]
    rank: int
    message: str
    remedy: str
    exit_code: int


Event = (
    PhaseEntered
    | BufferMade
    | Progress
    | LossWentWrong
    | EpochDone
    | Evaluated
    | CheckpointWritten
    | Reported
    | Stopped
    | Failed
)
Emit = Callable[[Event], None]
"""Sends an event to the launcher; any thread may call it."""
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def read_event(line: str | bytes) -> Event | None:
    """Read one line; None if it is not an event (DGL prints on standard output, too)."""
    try:
        return _EVENTS.validate_json(line)
    except ValidationError:
        return None
