"""What a controller says of itself: for the live display, and for the run's summary."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rudder.memory.records import Episode
from rudder.training.metrics import SteeringCounts
from rudder.training.settings import BufferSettings

RUN_ENDED = "the run ended"
"""Why a trial was cut short that nothing was wrong with."""


class SteeringReport(BaseModel):
    """One rank's steering up to now; `phase` is what the controller is doing,
    is_on whether the trainer lets itself be steered; last: the last decision, last_applied: the
    last one that changed something."""

    model_config = ConfigDict(frozen=True)

    rank: int
    planner: str
    phase: str = "watching"
    is_on: bool = True
    counts: SteeringCounts = SteeringCounts()
    confirmed: BufferSettings | None = None
    last: Episode | None = None
    last_applied: Episode | None = None
    journal_is_writing: bool = True
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0


def report_file(folder: Path, rank: int) -> Path:
    """Where a rank's report is kept in a run's folder."""
    return folder / "steering" / f"rank{rank}.json"


def write_report(report: SteeringReport, folder: Path) -> None:
    """Replace the rank's report in one step; on a full disk, what is short goes over the old one.

    Never raises: where nothing at all can be written, the old report stays.
    """
    file = report_file(folder, report.rank)
    fresh = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(report.model_dump_json())
        fresh.replace(file)
    except OSError:
        with contextlib.suppress(OSError):  # read-only
            fresh.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            _write_over(file, report.model_copy(update={"last": None}))


def _write_over(file: Path, report: SteeringReport) -> None:
    """Without taking another block of the disk."""
    with file.open("r+") as old:
        old.write(report.model_dump_json())
        old.truncate()


def read_report(folder: Path, rank: int) -> SteeringReport | None:
    """The rank's report; None where there is none yet."""
    try:
        return SteeringReport.model_validate_json(report_file(folder, rank).read_text())
    except (OSError, ValidationError):
        return None
