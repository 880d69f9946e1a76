"""After a steered run: its counts for the summary, its episodes for the memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from rudder.agents.controller.report import SteeringReport, forget_spare_reports, read_report
from rudder.cli.show.progress import say
from rudder.cli.show.steering_lines import last_change
from rudder.cli.show.summary import write_summary
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_folder import StoredRun
from rudder.training.config import RunConfig
from rudder.training.errors import MachineError, RudderError
from rudder.training.metrics import CountSource, SteeringCounts, Summary
from rudder.training.steering_options import SteeringOptions, default_memory


def steering_of(config: RunConfig, run_dir: Path) -> tuple[SteeringCounts, ...]:
    """What became of each controller's decisions; empty where nobody steered."""
    if config.steering is None:
        return ()
    reports = [read_report(run_dir, rank) for rank in range(config.num_trainers)]
    is_read_only = _is_read_only(run_dir)
    return tuple(
        _counts(report, is_read_only=is_read_only) for report in reports if report is not None
    )


def _counts(report: SteeringReport, *, is_read_only: bool) -> SteeringCounts:
    last = None if report.last_applied is None else last_change(report.last_applied)
    source: CountSource = "record" if report.journal_is_writing else "controller"
    if is_read_only and not report.is_over:
        source = "cut short"
    return report.counts.model_copy(
        update={"rank": report.rank, "last_change": last, "source": source}
    )


def keep_record(
    summary: Summary,
    config: RunConfig,
    run_dir: Path,
    *,
    check_heads: Callable[[], None] = lambda: None,
) -> None:
    """Write the summary of a finished run, and its episodes into the memory.

    check_heads: raises MachineError if an anchor could not be written. Writes what it can; raises
    MachineError if anything could not be written, also by a controller.
    """
    steps = (
        lambda: _keep_summary(summary, run_dir),
        lambda: _keep_episodes(config.steering, run_dir),
        lambda: _check_record(config, run_dir),
        lambda: _check_model(summary),
        check_heads,
    )
    lost = [error for step in steps if (error := _lost_in(step)) is not None]
    if config.steering is not None:
        forget_spare_reports(run_dir, num_ranks=config.num_trainers)
    if lost:
        what = "; ".join(error.message for error in lost)
        raise MachineError(f"training is done, but {what}", remedy=lost[0].remedy)


def keep_report(run_dir: Path) -> None:
    """Write the run's page; whatever goes wrong is told, and does the run no harm."""
    from rudder.cli.show.report import FILE_NAME, write_report

    try:
        write_report([StoredRun(run_dir)], run_dir / FILE_NAME)
    except Exception as error:  # a page to look at, which can be written again
        say(f"no {FILE_NAME} was written: {error}; `rudder report {run_dir}` tries again")


def _lost_in(step: Callable[[], None]) -> MachineError | None:
    try:
        step()
    except MachineError as error:
        return error
    return None


def _keep_summary(summary: Summary, run_dir: Path) -> None:
    try:
        write_summary(summary, run_dir)
    except OSError as error:
        raise MachineError(
            f"its summary cannot be written to {run_dir}: {error.strerror}",
            remedy="the figures are on the terminal; make room or give write access before the"
            " next run, or choose another folder with --run-dir",
        ) from None


def _check_record(config: RunConfig, run_dir: Path) -> None:
    gaps = [each.rank for each in steering_of(config, run_dir) if each.source != "record"]
    if gaps:
        ranks = ", ".join(map(str, gaps))
        raise MachineError(
            f"the record of steering has gaps (rank {ranks})",
            remedy=f"see {run_dir}/logs/controller{gaps[0]}.log; make room, or give write access",
        )


def _check_model(summary: Summary) -> None:
    last = summary.evaluations[-1:]
    if last and last[0].model_error is not None:
        raise MachineError(
            f"its model could not be written: {last[0].model_error}",
            remedy="make room, or give write access, and train on with more --epochs from the last"
            f" checkpoint: `rudder train --resume {summary.run_dir}`",
        )


def _is_read_only(run_dir: Path) -> bool:
    """Whether nothing can be written there now."""
    try:
        with tempfile.TemporaryFile(dir=run_dir):
            return False
    except OSError:
        return True


def _keep_episodes(options: SteeringOptions | None, run_dir: Path) -> None:
    """Add the run's episodes to the memory across runs, if there is to be one.

    A memory that cannot be used gives a line for the user, and so does the one in a home folder
    that cannot be written, as in containers. A memory that the user named, or one whose disk is
    full, is an error, as the next run would learn nothing either.
    """
    if options is None or options.memory is None:
        return
    remedy = f"`rudder memory merge {run_dir} --memory {options.memory}`, once that is mended"
    lost = f"the run's episodes are not in {options.memory}"
    try:
        fill(options.memory, run_dir, replaces_damaged=True)
    except RudderError as error:
        say(f"{lost}: {error}")
        say(f"what to do: {remedy}")
    except (OSError, sqlite3.Error) as error:
        if options.memory != default_memory() or not _is_read_only(_existing(options.memory)):
            raise MachineError(f"{lost}: {error}", remedy=remedy) from None
        say(f"{lost}: {error}")
        say("what to do: name a file that can be written with --memory, or use --memory none")


def _existing(path: Path) -> Path:
    """The folder of a file, or the one in which it would be made."""
    return next(folder for folder in path.parents if folder.exists())
