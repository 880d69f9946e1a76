"""What controllers did, read from the records of real decisions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.steering_record import EstimateError, change_stats_below, change_stats_in
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.errors import DataError
from rudder.training.settings import BufferSettings
from tests.agents.steered import trainer_of

LARGE = BufferSettings(capacity_rows=6000, lookahead_batches=16)


def live(folder: Path) -> tuple[Run, BufferSettings]:
    trainer = trainer_of(LARGE)
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=None)
    run = asyncio.run(simulate(trainer, planner=EmbeddedPlanner(), windows=30, journal=journal))
    journal.close()
    return run, trainer.settings


def test_deeds_are_those_of_the_run(tmp_path: Path) -> None:
    run, settings = live(tmp_path / "run")
    (stats,) = change_stats_in(tmp_path / "run")
    outcomes = [each.outcome for each in run.applied if each.outcome is not None]
    assert stats.applied == len(run.applied) >= 1
    assert stats.confirmed == sum(each.result == "confirmed" for each in outcomes)
    assert stats.rows_errors == tuple(
        each.rows_error for each in outcomes if each.rows_error is not None
    )
    assert stats.first == LARGE
    assert stats.last is not None
    assert stats.last == run.windows[-1].settings
    assert stats.given_back == pytest.approx(1 - stats.last.capacity_rows / 6000)
    assert settings.capacity_rows < 6000
    found = list(change_stats_below([tmp_path]))
    assert found == [(tmp_path / "run", stats)]


def test_where_nobody_steered_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        change_stats_in(tmp_path)
    with pytest.raises(DataError):
        list(change_stats_below([tmp_path]))


def test_honest_is_within_five_percent_either_way() -> None:
    found = EstimateError.of([0.0, -0.05, 0.051, -0.2])
    assert (found.changes, found.within, found.fraction) == (4, 2, 0.5)
    assert found.median_error == pytest.approx(0.0505)
    assert found.worst_error == 0.2
    assert EstimateError.of([]).fraction is None
