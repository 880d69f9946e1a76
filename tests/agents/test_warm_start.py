"""A second run on known work begins where the first one came to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.cli.main import make_app
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.settings import BufferSettings, Change
from tests.agents.steered import SLOW, trainer_of

POOR = BufferSettings(capacity_rows=60, lookahead_batches=0)
LARGER = Change(capacity_rows=4000)
WINDOWS = 30


def lived(
    folder: Path,
    *,
    memory: Path | None,
    key: str,
    start: BufferSettings = POOR,
    costs: Costs = SLOW,
) -> tuple[Run, SimulatedTrainer]:
    """A run that leaves a record, and its trainer."""
    trainer = trainer_of(start, costs=costs, seed=int(key, 16))
    trainer.workload = trainer.workload.model_copy(update={"run_key": key * 32})
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=memory)
    run = asyncio.run(
        simulate(trainer, planner=EmbeddedPlanner(), windows=WINDOWS, journal=journal)
    )
    journal.close()
    return run, trainer


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first run on the work has left."""
    folder = tmp_path_factory.mktemp("earlier")
    lived(folder / "run", memory=None, key="a")
    fill(folder / "memory.db", folder / "run")
    return folder / "memory.db"


def test_known_work_begins_with_what_it_came_to(memory: Path, tmp_path: Path) -> None:
    cold, _ = lived(tmp_path / "cold", memory=None, key="b")
    warm, _ = lived(tmp_path / "warm", memory=memory, key="b")
    first = warm.applied[0]
    assert first.applied is not None
    assert first.outcome is not None
    assert first.applied.step == 0
    assert first.recalled
    assert warm.windows[0].settings.capacity_rows > POOR.capacity_rows
    assert first.outcome.result == "confirmed"
    assert warm.seconds < cold.seconds


def test_a_run_that_begins_there_already_is_left_alone(memory: Path, tmp_path: Path) -> None:
    settings = lived(tmp_path / "one", memory=memory, key="c")[0].windows[0].settings
    again, _ = lived(tmp_path / "two", memory=memory, key="d", start=settings)
    assert not [each for each in again.episodes if each.observation.step == 0]


def test_what_is_not_true_any_more_costs_little(memory: Path, tmp_path: Path) -> None:
    """The network is three times as slow as it was then."""
    slower = Costs(row_ms=3 * SLOW.row_ms)
    cold, _ = lived(tmp_path / "cold", memory=None, key="b", costs=slower)
    warm, _ = lived(tmp_path / "warm", memory=memory, key="b", costs=slower)
    assert warm.seconds <= cold.seconds


def test_it_replays_and_can_be_explained(memory: Path, tmp_path: Path) -> None:
    run, _ = lived(tmp_path / "runs" / "warm", memory=memory, key="b")
    told = CliRunner().invoke(make_app(), ["replay", "--run", str(tmp_path / "runs" / "warm")])
    assert told.exit_code == 0, told.output
    name = run.applied[0].episode_id
    page = CliRunner().invoke(
        make_app(), ["explain", name, "--run", str(tmp_path / "runs" / "warm")]
    )
    assert page.exit_code == 0, page.output
    assert "an earlier run on the same work came to these settings" in page.output
    assert "before the first window" in page.output
