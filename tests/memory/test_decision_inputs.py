"""What decisions rest on is kept with the session that made them, and replaced as it grows."""

from __future__ import annotations

import json
from pathlib import Path

from rudder.memory.journal import FRESH, DecisionInputs, Node, Passage
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_window, sample_workload
from rudder.tools.estimate.calibration import Learned
from rudder.tools.limits import Limits
from rudder.training.metrics import Window

WORK = sample_workload()
LEARNED = Learned(sampled=0.5, measured=0.1 + 0.2, is_measured=True, error_fraction=None)


def inputs_of(episode_id: str, *nodes: Node) -> DecisionInputs:
    return DecisionInputs(
        episode_id=episode_id,
        objective="time",
        tolerance=0.01,
        seed=0,
        memory_budget_bytes=None,
        learned=LEARNED,
        guard=FRESH,
        fingerprint=2**32 - 1,
        passages=tuple(Passage(node=node, begin=i, end=i + 1) for i, node in enumerate(nodes)),
    )


def test_inputs_come_back_as_they_were_last_known(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path / "rank0.db", memory=None)
    journal.begin(WORK)
    for nodes in (("observe", "plan"), ("observe", "plan", "criticise")):
        journal.add_inputs(inputs_of("a", *nodes))
    journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        (kept,) = reader.inputs().values()
    assert kept.inputs == inputs_of("a", "observe", "plan", "criticise")
    assert kept.inputs.begin("criticise") == 2
    assert kept.inputs.begin("guard") is None


def test_each_session_knows_its_first_window_and_its_workload(tmp_path: Path) -> None:
    later = WORK.model_copy(update={"epochs": 99})
    for name, work in (("a", WORK), ("b", later)):
        journal = SqliteJournal.open(tmp_path / "rank0.db", memory=None)
        journal.begin(work)
        for index in range(3):
            journal.add_window(sample_window(index, workload=work))
        journal.add_inputs(inputs_of(name, "observe"))
        journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        kept = reader.inputs()
        assert [kept[name].first_window for name in "ab"] == [1, 4]
        assert reader.workload_of_session(kept["a"].session) == WORK
        assert reader.workload_of_session(kept["b"].session) == later
        windows = reader.windows_of_session(4)
    assert windows == [sample_window(index, workload=later) for index in range(3)]


def test_a_journal_without_a_run_keeps_nothing(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path / "rank0.db", memory=None)
    journal.add_inputs(inputs_of("a", "observe"))
    assert journal.is_writing
    journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert reader.inputs() == {}


def test_a_decision_of_version_0_1_keeps_the_part_of_the_budget_that_its_trainer_had() -> None:
    work = WORK.model_copy(update={"trainers_on_host": 2})
    budget = 1000 * work.row_bytes
    for allotted, rows in ((300, 300), (0, 0), (None, 500)):
        line = {**inputs_of("a").model_dump(), "memory_budget_bytes": budget}
        old = DecisionInputs.model_validate_json(json.dumps({**line, "allotted_rows": allotted}))
        limits = Limits.of(work, memory_budget_bytes=old.budget_of(work))
        assert limits.max_capacity_rows == rows


def test_a_window_of_version_0_1_is_read_without_its_stakes() -> None:
    pace = {"rank": 1, "window": 0, "step_seconds": 1.0, "exposed_wait_seconds": 0.5}
    stake = {"host": 0, "held_bytes": 8, "claimed_parts": 2, "given_parts": {"1": 7}}
    line = {**sample_window(0, workload=WORK).model_dump(mode="json"), "allotted_rows": 9}
    old = Window.model_validate_json(json.dumps({**line, "peers": [{**pace, "stake": stake}]}))
    assert [each.model_dump() for each in old.peers] == [
        {**pace, "num_ranks": 1, "lowest_rank": None}
    ]


def test_inputs_of_an_earlier_version_name_the_objective_as_it_is_named_now() -> None:
    kept = inputs_of("a").model_dump_json().replace('"time"', '"wait"')
    assert DecisionInputs.model_validate_json(kept) == inputs_of("a")
