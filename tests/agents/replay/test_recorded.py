"""Stored decisions come out equal, or it is said why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from rudder.agents.planners.baselines import AdversarialPlanner
from rudder.agents.planners.exploring import CollectingCritic, CollectingPlanner
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.run.tables import crc32_of
from tests.agents.replay.conftest import replayed
from tests.agents.replay.made import FOLDER, Make, make_run, make_runs
from tests.agents.steered import trainer_of


def edit(path: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute(sql, values).rowcount > 0
    db.close()


def edit_json(path: Path, table: str, change: Callable[[dict[str, object]], None]) -> None:
    """Change the content of a table's rows, as somebody who knows the checksum could."""
    with sqlite3.connect(path) as db:
        rows = db.execute(f"SELECT rowid, content FROM {table}").fetchall()
        for row, content in rows:
            value = json.loads(content)
            change(value)
            text = json.dumps(value)
            db.execute(f"UPDATE {table} SET content = ? WHERE rowid = ?", (text, row))
            if table == "episodes":
                db.execute(
                    "UPDATE episodes SET checksum = ? WHERE rowid = ?", (crc32_of(text), row)
                )
    db.close()


def test_ninety_decisions_of_all_planners_come_out_equal(tmp_path: Path) -> None:
    found = [
        each for path in make_runs(tmp_path, decisions=90, size=1000) for each in replayed(path)
    ]
    assert len(found) >= 90
    assert [each for each in found if each.result != "equal"] == []
    planners = {plan.planner for each in found for plan in each.episode.plans}
    assert planners >= {"embedded", "heuristic", "periodic", "collect", "llm:random"}
    outcomes = {each.episode.outcome.result for each in found if each.episode.outcome}
    assert outcomes >= {"confirmed", "reverted", "refused", "kept"}
    assert any(each.episode.recalled for each in found)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.db")), ids=lambda path: path.stem)
def test_the_kept_runs_of_this_repository_come_out_equal(path: Path) -> None:
    found = replayed(path)
    assert len(found) > 5
    assert [each for each in found if each.result != "equal"] == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [("embedded-0001", "observation.noise_rows"), ("embedded-0002", "plan.change.capacity_rows")],
)
def test_the_record_of_an_earlier_version_opens_verifies_and_replays(
    name: str, changed: str
) -> None:
    """Its decisions come out as they would be made now: in 0001 noise of few windows was narrower,
    and up to 0002 the objective `wait` gave memory back."""
    path = FOLDER.parent / "released" / f"{name}.db"
    with RunReader(path) as reader:
        assert reader.verify().holds
    found = replayed(path)
    assert len(found) > 5
    assert {each.reason for each in found} == {None}
    assert "equal" in {each.result for each in found}
    differing = [each for each in found if each.result == "different"]
    for each in differing:
        assert changed in {one.field for one in each.differences}


def test_a_run_that_a_second_controller_went_on_with_comes_out_equal(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    trainer = trainer_of()
    for _ in range(2):
        journal = SqliteJournal.open(path, memory=None)
        planner, critic = CollectingPlanner(), CollectingCritic()
        asyncio.run(simulate(trainer, planner=planner, critic=critic, windows=12, journal=journal))
        journal.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(DISTINCT session) FROM decision_inputs").fetchone() == (2,)
    db.close()
    assert {each.result for each in replayed(path)} == {"equal"}


# -- differences are seen --------------------------------------------------------------------


def test_another_plan_in_the_record_is_a_difference(file: Path) -> None:
    def change(episode: dict[str, object]) -> None:
        plan = episode["plan"]
        assert isinstance(plan, dict)
        plan["change"] = {"lookahead_batches": 3}

    edit_json(file, "episodes", change)
    found = replayed(file)
    assert {each.result for each in found} == {"different"}
    fields = {each.field for each in found[0].differences}
    assert "plan.change.lookahead_batches" in fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_budget_bytes", 1),
        ("learned", {"sampled": 0.5, "measured": 0.1, "is_measured": True, "error_fraction": 0.9}),
        ("objective", "traffic"),
    ],
)
def test_a_decision_depends_on_every_input_that_is_kept(
    file: Path, field: str, value: object
) -> None:
    edit_json(file, "decision_inputs", lambda inputs: inputs.update({field: value}))
    assert "different" in {each.result for each in replayed(file)}


def test_a_guard_that_was_quiet_is_quiet_again(file: Path) -> None:
    state = {"in_flight": False, "quiet_until": 10**6}
    edit_json(file, "decision_inputs", lambda inputs: inputs.update(guard=state))
    fields = {each.field for one in replayed(file) for each in one.differences}
    assert "guard.rule" in fields


# -- what is missing is said -----------------------------------------------------------------


def reasons(path: Path) -> set[str | None]:
    return {each.reason for each in replayed(path)}


def test_decisions_of_an_earlier_version_are_not_replayable(file: Path) -> None:
    edit(file, "DELETE FROM decision_inputs")
    assert reasons(file) == {"what it rested on was not kept"}


def test_pruned_accesses_make_later_decisions_not_replayable(file: Path) -> None:
    edit(file, "DELETE FROM slices WHERE number = 4")
    assert reasons(file) == {None, "sampled accesses that it rested on were pruned"}
    assert replayed(file)[0].result == "equal"


def test_of_a_run_beyond_the_cap_all_decisions_are_equal_whose_accesses_are_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rank0.db"
    journal = SqliteJournal.open(path, memory=None, max_slice_bytes=130_000)
    trainer = trainer_of(stream=ZipfStream(num_remote=1500, draws=150))
    planner, critic = CollectingPlanner(), CollectingCritic()  # which never rest
    asyncio.run(simulate(trainer, planner=planner, critic=critic, windows=80, journal=journal))
    journal.close()
    with RunReader(path) as reader:
        pruned = sum(each.accesses is None for each in reader.windows(with_slices=True))
    assert pruned > 10
    found = replayed(path)
    results = [each.result for each in found]
    first = results.index("equal")
    assert 0 < first < len(results) - 1
    assert set(results[:first]) == {"not replayable"}
    assert set(results[first:]) == {"equal"}
    assert {each.reason for each in found[:first]} == {
        "sampled accesses that it rested on were pruned"
    }


def test_missing_windows_make_decisions_not_replayable(file: Path) -> None:
    edit(file, "DELETE FROM slices WHERE number > 20")
    edit(file, "DELETE FROM windows WHERE number > 20")
    assert "windows that it rested on are missing" in reasons(file)


def test_decisions_on_windows_that_could_not_be_recorded_are_not_replayable(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rank0.db"

    def lock(number: int, trainer: SimulatedTrainer) -> None:
        assert journal._store is not None
        journal._store.wait_for_locks(is_patient=False)
        if number == 16:  # no change is decided then, and so none is refused
            other.execute("BEGIN IMMEDIATE")
        if number == 17:
            other.rollback()

    with (
        contextlib.closing(SqliteJournal.open(path, memory=None)) as journal,
        contextlib.closing(sqlite3.connect(path)) as other,
    ):
        trainer = trainer_of(stream=ZipfStream(num_remote=1500, draws=150))
        planner, critic = CollectingPlanner(), CollectingCritic()
        steered = simulate(
            trainer, planner=planner, critic=critic, windows=40, journal=journal, disturbance=lock
        )
        asyncio.run(steered)
    found = replayed(path)
    assert {each.reason for each in found} == {None, "windows that it rested on are missing"}
    assert {each.result for each in found} == {"equal", "not replayable"}


def test_a_lost_episode_makes_a_decision_not_replayable(file: Path) -> None:
    edit_json(file, "episodes", lambda episode: episode.update(recalled=["gone"]))
    assert reasons(file) == {"the episode gone, which it recalled, is missing"}


def test_a_planner_that_no_name_stands_for_is_not_replayed(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path / "rank0.db", memory=None)
    asyncio.run(simulate(trainer_of(), planner=AdversarialPlanner(), windows=12, journal=journal))
    journal.close()
    assert reasons(tmp_path / "rank0.db") == {
        "its planner, adversarial, is none that a name alone stands for"
    }


def test_a_model_whose_answers_are_gone_is_not_replayed(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    path.write_bytes((FOLDER / "llm.db").read_bytes())
    edit(path, "DELETE FROM model_calls")
    assert "the answers of the model that was its planner were not kept" in reasons(path)


# -- a model thinks while decisions go on ------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 2.0])
def test_a_plan_that_was_asked_for_at_an_earlier_decision_comes_out_equal(
    delay_s: float, tmp_path: Path
) -> None:
    path = tmp_path / "rank0.db"
    make_run(path, Make("llm", windows=48, delay_s=delay_s))
    found = replayed(path)
    assert [each for each in found if each.result != "equal"] == []
    heard = [
        (plan.asked_step, each.episode.observation.step)
        for each in found
        for plan in each.episode.plans
        if plan.asked_step is not None
    ]
    assert heard
    assert all(asked < step for asked, step in heard)
