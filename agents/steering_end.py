"""What is left of steering when a run has ended: counts for its summary, episodes for the next."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rudder.agents.progress import say
from rudder.agents.steering_report import read_report
from rudder.memory.exchange import fill
from rudder.training.config import RunConfig
from rudder.training.errors import MachineError, RudderError
from rudder.training.metrics import SteeringCounts
from rudder.training.steering_options import SteeringOptions


def steering_of(config: RunConfig, run_dir: Path) -> tuple[SteeringCounts, ...]:
    """What became of each controller's decisions; empty where nobody steered."""
    if config.steering is None:
        return ()
    reports = [read_report(run_dir, rank) for rank in range(config.num_trainers)]
    return tuple(report.counts for report in reports if report is not None)


def check_record(config: RunConfig, run_dir: Path) -> None:
    """Raises MachineError where a controller could not write down all that it did."""
    if config.steering is None:
        return
    reports = [read_report(run_dir, rank) for rank in range(config.num_trainers)]
    silent = [each.rank for each in reports if each is not None and not each.journal_is_writing]
    if silent:
        raise MachineError(
            f"training is done, but the record of steering has gaps (ranks {silent})",
            remedy=f"see {run_dir}/logs/controller{silent[0]}.log; make room, or give write access",
        )


def keep_episodes(options: SteeringOptions, run_dir: Path) -> None:
    """Add the run's episodes to the memory across runs, if there is to be one.

    The run is over and its results are safe: what goes wrong here is told, and nothing else.
    """
    if options.memory is None:
        return
    try:
        fill(options.memory, run_dir)
    except (RudderError, OSError, sqlite3.Error) as error:
        say(f"the run's episodes are not in {options.memory}: {error}")
        say(f"what to do: rudder memory merge {run_dir} --memory FILE, once that is mended")
