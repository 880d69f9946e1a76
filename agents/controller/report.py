"""A controller's report on its work, for the live display and the run's summary.

It is a file in the run's folder, or in the user's data folder if the former cannot be written.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from rudder.memory.records import Episode
from rudder.training.metrics import SteeringCounts
from rudder.training.settings import BufferSettings, Frozen
from rudder.training.steering_options import default_memory

_KEPT = 1000
"""Errors and ages of changes in a report, the latest: enough for a median, and no file that grows
with a run."""


def counted(counts: SteeringCounts, episode: Episode) -> SteeringCounts:
    """The counts with what is new of an episode: it comes once when it was decided, and again
    when its trial is over."""
    result = None if episode.outcome is None else episode.outcome.result
    if is_change(episode) and episode.outcome is not None:
        error = episode.outcome.rows_error
        errors = counts.rows_errors if error is None else (*counts.rows_errors, error)[-_KEPT:]
        return _added(counts, **{str(result): 1}).model_copy(update={"rows_errors": errors})
    applied, ages = episode.applied, counts.ages_steps
    if applied is not None and is_change(episode):
        ages = (*ages, applied.step - episode.observation.step)[-_KEPT:]
    decision = None if episode.verdict is None else episode.verdict.decision
    is_own = episode.plan.turn is None
    found = _added(
        counts,
        decisions=is_own,
        joined=not is_own,
        reconsidered=episode.rejected is not None,
        proposed=not episode.plan.change.is_empty,
        approved=decision == "approve",
        trimmed=decision == "trim",
        refused=result == "refused",
        late=result == "expired",
        applied=is_change(episode),
    )
    return found.model_copy(update={"ages_steps": ages})


def _added(counts: SteeringCounts, **more: int) -> SteeringCounts:
    update = {name: getattr(counts, name) + number for name, number in more.items()}
    return counts.model_copy(update=update)


def is_change(episode: Episode) -> bool:
    """Whether the decision changed the settings."""
    return episode.applied is not None and episode.applied.outcome == "applied"


RUN_ENDED = "the run ended"
"""Reason of a trial that only the end of the run has ended."""
ENDED = "ended"
"""The phase of a controller whose trainer has hung up."""
RESTING = "resting"
"""The phase of a controller that waits for something to change, for nothing can be gained."""
_CHANGES = 4
"""Last changes in a report, so that a display that looks twice a second misses none."""


class SteeringReport(Frozen):
    """One rank's steering up to now; `phase` is what the controller is doing, shortage: why memory
    is given back, None: it is not;
    is_on whether the trainer lets itself be steered; last: the last decision, changes: the
    last ones that changed something, oldest first, as they stand now."""

    rank: int
    planner: str
    phase: str = "watching"
    is_on: bool = True
    counts: SteeringCounts = SteeringCounts()
    confirmed: BufferSettings | None = None
    last: Episode | None = None
    changes: tuple[Episode, ...] = ()
    shortage: str | None = None
    journal_is_writing: bool = True
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0

    @property
    def last_applied(self) -> Episode | None:
        """The last decision that changed something."""
        return self.changes[-1] if self.changes else None

    def changes_with(self, episode: Episode) -> tuple[Episode, ...]:
        """The last changes, and this one in place of what was known of it."""
        others = [each for each in self.changes if each.episode_id != episode.episode_id]
        return (*others, episode)[-_CHANGES:]

    @property
    def is_over(self) -> bool:
        """Whether this is the controller's last word."""
        return self.phase == ENDED


def report_file(folder: Path, rank: int) -> Path:
    """Where a rank's report is kept in a run's folder."""
    return folder / "steering" / f"rank{rank}.json"


def spare_report_file(folder: Path, rank: int) -> Path:
    """Where a rank's report is kept once a run's folder cannot be written, on the same host."""
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return default_memory().parent / "reports" / f"{name}-rank{rank}.json"


def write_report(report: SteeringReport, folder: Path) -> None:
    """Replace the rank's report in one step; on a full disk, what is short goes over the old one,
    and on a read-only one into the spare file.

    Never raises: where nothing at all can be written, the old report stays.
    """
    file = report_file(folder, report.rank)
    attempts: tuple[Callable[[], None], ...] = (
        lambda: _replace(file, report),
        lambda: _write_over(file, _short(report)),
        lambda: _replace(spare_report_file(folder, report.rank), report),
    )
    for attempt in attempts:
        with contextlib.suppress(OSError):
            attempt()
            return


def _short(report: SteeringReport) -> SteeringReport:
    return report.model_copy(update={"last": None, "changes": report.changes[-1:]})


def read_report(folder: Path, rank: int) -> SteeringReport | None:
    """The rank's newest report; None where there is none yet."""
    for file in _newest_first(folder, rank):
        with contextlib.suppress(OSError, ValidationError):
            return SteeringReport.model_validate_json(file.read_bytes())
    return None


def read_reports(folder: Path) -> list[SteeringReport]:
    """The reports of all ranks in a run's folder, in their order; none where nobody steered."""
    ranks = [int(file.stem.removeprefix("rank")) for file in folder.glob("steering/rank*.json")]
    found = [read_report(folder, rank) for rank in sorted(ranks)]
    return [report for report in found if report is not None]


def report_version(folder: Path, rank: int) -> tuple[int, int] | None:
    """What changes with each report of the rank; None where there is none yet."""
    try:
        found = _newest_first(folder, rank)[0].stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _newest_first(folder: Path, rank: int) -> list[Path]:
    files = (report_file(folder, rank), spare_report_file(folder, rank))
    return sorted(files, key=_written_at, reverse=True)


def forget_spare_reports(folder: Path, *, num_ranks: int) -> None:
    """Delete them once the summary is written."""
    for rank in range(num_ranks):
        with contextlib.suppress(OSError):
            spare_report_file(folder, rank).unlink(missing_ok=True)


def _replace(file: Path, report: SteeringReport) -> None:
    fresh = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(report.model_dump_json())
        fresh.replace(file)
    except OSError:
        with contextlib.suppress(OSError):  # read-only
            fresh.unlink(missing_ok=True)
        raise


def _write_over(file: Path, report: SteeringReport) -> None:
    """Without taking another block of the disk."""
    with file.open("r+") as old:
        old.write(report.model_dump_json())
        old.truncate()


def _written_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
