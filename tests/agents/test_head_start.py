"""A second run on known work begins where the first one came to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.trial import HeadStart
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.cli.main import app
from rudder.memory.past.transfer import fill
from rudder.memory.records import Outcome
from rudder.memory.run.run_file import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings, Change
from tests.agents.steered import SLOW, applied_of, effect_of, trainer_of, window_of

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
    told = CliRunner().invoke(app, ["replay", "--run", str(tmp_path / "runs" / "warm")])
    assert told.exit_code == 0, told.output
    name = run.applied[0].episode_id
    page = CliRunner().invoke(app, ["explain", name, "--run", str(tmp_path / "runs" / "warm")])
    assert page.exit_code == 0, page.output
    assert "an earlier run on the same work came to these settings" in page.output
    assert "before the first window" in page.output


# -- its trial -------------------------------------------------------------------------------


def fed(*waits_ms: float) -> list[Outcome | None]:
    trial = HeadStart(applied=applied_of(LARGER, step=0), expected=effect_of(100.0, 1.0))
    return [trial.feed(told(number, wait)) for number, wait in enumerate(waits_ms)]


def told(number: int, wait_ms: float) -> Window:
    settings = applied_of(LARGER).settings
    return window_of(16 * number, settings=settings, wait_ms=wait_ms)


def test_it_is_confirmed_once_the_trainer_waits_no_longer_than_then() -> None:
    first, second = fed(9.0, 1.5)
    assert first is None
    assert second is not None
    assert (second.result, second.wait_ms_after, second.rows_error) == ("confirmed", 1.5, None)


def test_it_is_given_up_where_it_goes_on_waiting_and_nothing_is_undone() -> None:
    *before, last = fed(9.0, 9.0, 9.0, 9.0)
    assert before == [None] * 3
    assert last is not None
    assert last.result == "abandoned"
    assert HeadStart.undo.is_empty


def test_settings_of_someone_else_end_it() -> None:
    trial = HeadStart(applied=applied_of(LARGER, step=0), expected=None)
    outcome = trial.feed(window_of(0, settings=POOR))
    assert outcome is not None
    assert outcome.result == "abandoned"
