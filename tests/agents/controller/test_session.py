"""All of a controller but its socket: the budget, the switch, and what a restart finds."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rudder.agents.actuator import NoAnswerError
from rudder.agents.controller.report import SteeringReport, read_report, report_version
from rudder.agents.controller.session import ControllerSession
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.cli.after_run import steering_of
from rudder.memory.past.experience import Experience
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.tools.memory_watch import MemoryWatch
from rudder.training.buffer.hot_set import HotSet, hot_set_beside
from rudder.training.config import run_config
from rudder.training.control.messages import SteeringState
from rudder.training.control.steering import BUDGET_FILE, OBJECTIVE_FILE, HostSetting
from rudder.training.host_memory import HostMemory
from rudder.training.metrics import LastChange
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.steering_options import SteeringOptions

ROW_BYTES = 400
SLOW_NETWORK = Costs(row_ms=0.2)


def make_trainer(capacity: int, *, costs: Costs = SLOW_NETWORK) -> SimulatedTrainer:
    stream = ZipfStream(num_remote=6000, draws=600)
    settings = BufferSettings(capacity_rows=capacity, lookahead_batches=16)
    return SimulatedTrainer(stream, settings=settings, costs=costs, row_bytes=ROW_BYTES)


async def opened(
    trainer: SimulatedTrainer,
    folder: Path,
    *,
    memory: MemoryWatch | None = None,
    past: Path | None = None,
) -> ControllerSession:
    (folder / "control").mkdir(exist_ok=True)
    session = ControllerSession(
        trainer.workload,
        sender=trainer,
        options=SteeringOptions(memory=past),
        folder=folder,
        socket=folder / "control" / "rank0.sock",
        process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        memory=memory or MemoryWatch(look=lambda: HostMemory(2**40, 2**40)),
    )
    await session.begin()
    return session


async def steer(session: ControllerSession, trainer: SimulatedTrainer, windows: int) -> None:
    for _ in range(windows):
        await session.take(trainer.window())


def report_of(folder: Path) -> SteeringReport:
    report = read_report(folder, 0)
    assert report is not None
    return report


def state(trainer: SimulatedTrainer, *, is_on: bool) -> SteeringState:
    return SteeringState(
        is_on=is_on, rank=0, step=0, settings=trainer.settings, defaults=trainer.settings
    )


def test_a_poor_start_is_mended_and_reported(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        await steer(session, trainer, 24)
        await session.close()
        assert trainer.settings.capacity_rows > 600

    asyncio.run(run())
    report = report_of(tmp_path)
    assert report.phase == "ended"
    assert 1 <= report.counts.applied <= 12
    assert report.counts.confirmed >= 1
    assert report.journal_is_writing
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        assert reader.verify().holds
        assert len(reader.episodes()) == report.counts.decisions


def test_a_budget_that_is_cut_while_the_run_goes_on_is_kept_to(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(4000)
        session = await opened(trainer, tmp_path)
        await steer(session, trainer, 12)
        before = trainer.settings.capacity_rows
        (tmp_path / "control" / BUDGET_FILE).write_text(f"{before // 2 * ROW_BYTES}\n")
        await steer(session, trainer, 12)
        await session.close()
        assert 0 < trainer.settings.capacity_rows <= before // 2

    asyncio.run(run())


def test_agents_seek_what_a_person_or_the_schedule_wants_from_then_on(tmp_path: Path) -> None:
    """A buffer that saves time is grown again after the objective `memory` has shrunk it."""

    async def run() -> list[int]:
        trainer = make_trainer(5000, costs=Costs(row_ms=0.002))
        session, held = await opened(trainer, tmp_path), []
        file = tmp_path / "control" / OBJECTIVE_FILE
        for said in (HostSetting("memory"), HostSetting("traffic", "schedule")):
            file.write_text(str(said))
            await steer(session, trainer, 40)
            held.append(trainer.settings.capacity_rows)
        await session.close()
        return held

    shrunk, grown = asyncio.run(run())
    assert shrunk < 2500 < 5000 <= grown
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        notes = [row for row in reader.audit() if row.tool == "steer_objective"]
        sought = [each.inputs.objective for each in reader.inputs().values()]
    assert [(row.agent, row.arguments) for row in notes] == [
        ("user", '{"objective": "memory"}'),
        ("schedule", '{"objective": "traffic"}'),
    ]
    assert list(dict.fromkeys(sought)) == ["memory", "traffic"]


def test_memory_pressure_has_half_of_the_buffer_given_back_and_says_so(tmp_path: Path) -> None:
    short = HostMemory(left_bytes=10, limit_bytes=1000, stalled_share=0.4)

    async def run() -> None:
        trainer = make_trainer(2000)
        session = await opened(trainer, tmp_path, memory=MemoryWatch(look=lambda: short))
        await steer(session, trainer, 1)
        held = report_of(tmp_path)
        await steer(session, trainer, 1)
        await session.close()
        assert held.shortage is None
        assert 0 < trainer.settings.capacity_rows <= 1000

    asyncio.run(run())
    words = (
        "the host runs short of memory: processes stood still for memory in 40% of the last 10 s"
    )
    assert report_of(tmp_path).shortage == words
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        (cut,) = [episode for episode in reader.episodes() if episode.plan.planner == "limits"]
        (note,) = [row for row in reader.audit() if row.tool == "memory_pressure"]
    assert words in cut.plan.reason
    assert words in str(note.arguments)


@pytest.mark.parametrize("text", ["", "many", "-5", "1e9"])
def test_a_budget_file_that_says_nothing_changes_nothing(tmp_path: Path, text: str) -> None:
    async def run() -> None:
        trainer = make_trainer(1000, costs=Costs(row_ms=0.001))
        session = await opened(trainer, tmp_path)
        (tmp_path / "control" / BUDGET_FILE).write_text(text)
        await steer(session, trainer, 2)
        await session.close()
        assert trainer.settings.capacity_rows == 1000

    asyncio.run(run())


def test_a_controller_rests_where_nothing_can_be_gained_and_wakes_when_the_link_slows(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        trainer = make_trainer(2000, costs=Costs(row_ms=0.002))
        session = await opened(trainer, tmp_path)
        budget = tmp_path / "control" / BUDGET_FILE
        budget.write_text(f"{2000 * ROW_BYTES}")
        while report_of(tmp_path).phase != "resting":
            await steer(session, trainer, 1)
        window = trainer.window()
        assert window.accesses is None
        assert (window.wall_seconds or 0) >= 1
        decided = report_of(tmp_path).counts.decisions
        await session.take(window)
        await steer(session, trainer, 20)
        assert report_of(tmp_path).counts.decisions == decided
        trainer.costs = Costs(row_ms=0.5)
        await steer(session, trainer, 12)
        assert report_of(tmp_path).counts.decisions > decided
        budget.unlink()
        await steer(session, trainer, 12)
        await session.close()
        assert trainer.settings.capacity_rows > 4000

    asyncio.run(run())


def test_a_controller_that_rests_writes_no_reports(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(2000, costs=Costs(row_ms=0.002))
        session = await opened(trainer, tmp_path)
        (tmp_path / "control" / BUDGET_FILE).write_text(f"{2000 * ROW_BYTES}")
        while report_of(tmp_path).phase != "resting":
            await steer(session, trainer, 1)
        written, steps = report_version(tmp_path, 0), trainer.window().num_steps
        trainer.costs = Costs(row_ms=0.002, compute_ms=8.0)  # windows of more steps
        await steer(session, trainer, 4)
        assert trainer.window().num_steps > steps
        assert report_version(tmp_path, 0) == written
        await session.close()

    asyncio.run(run())


def test_nothing_is_decided_while_steering_is_off(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        session.switch(state(trainer, is_on=False))
        await steer(session, trainer, 10)
        assert trainer.settings.capacity_rows == 60
        assert report_of(tmp_path).counts.decisions == 0
        assert not report_of(tmp_path).is_on
        session.switch(state(trainer, is_on=True))
        await steer(session, trainer, 10)
        await session.close()
        assert trainer.settings.capacity_rows > 60

    asyncio.run(run())


def test_a_change_on_trial_is_given_up_when_steering_is_switched_off(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(session, trainer, 1)
        session.switch(state(trainer, is_on=False))
        last = report_of(tmp_path).last
        assert last is not None
        assert last.outcome is not None
        assert last.outcome.result == "abandoned"
        await session.close()
        assert report_of(tmp_path).counts.abandoned == 1

    asyncio.run(run())


def test_a_restarted_controller_undoes_what_was_on_trial_and_sends_nothing_twice(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        before = trainer.settings
        killed = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(killed, trainer, 1)
        assert trainer.settings != before
        killed._journal._store.close()  # type: ignore[union-attr]  # as kill -9 does
        again = await opened(trainer, tmp_path)
        assert trainer.settings == before
        await steer(again, trainer, 20)
        await again.close()
        assert trainer.settings.capacity_rows > 600

    asyncio.run(run())
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        assert reader.verify().holds
        episodes = reader.episodes()
        rows = reader.audit()
    assert [each.number for each in episodes] == list(range(len(episodes)))
    assert report_of(tmp_path).counts.abandoned >= 1
    results = [each.outcome.result for each in episodes if each.outcome is not None]
    assert results.count("abandoned") >= 1
    intents = [row.call_id for row in rows if row.kind == "intent"]
    assert len(intents) == len(set(intents))


def test_a_restarted_controller_leaves_what_a_user_has_set_meanwhile(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        killed = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(killed, trainer, 1)
        killed._journal._store.close()  # type: ignore[union-attr]  # as kill -9 does
        await trainer.send(Change(capacity_rows=777), issued_at_step=None)
        again = await opened(trainer, tmp_path)
        assert trainer.settings.capacity_rows == 777
        await again.close()

    asyncio.run(run())


def test_a_decision_that_fails_is_recorded_and_the_next_one_is_made(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        await steer(session, trainer, 2)
        session.fail(KeyError("a fault of ours"))
        await steer(session, trainer, 20)
        await session.close()
        assert trainer.settings.capacity_rows > 600

    asyncio.run(run())
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        notes = [row for row in reader.audit() if row.tool == "decide"]
    assert [row.error_type for row in notes] == ["KeyError"]
    assert "KeyError: 'a fault of ours'" in json.loads(notes[0].result or "")["traceback"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoAnswerError("none", remedy="wait"), "the trainer gave no answer"),
        (KeyError("a fault of ours"), "a decision failed: KeyError"),
    ],
)
def test_the_reason_of_a_trial_that_was_given_up_is_true(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(session, trainer, 1)
        session.fail(error)
        await session.close()

    asyncio.run(run())
    last = report_of(tmp_path).last
    assert last is not None
    assert last.outcome is not None
    assert (last.outcome.result, last.outcome.reason) == ("abandoned", reason)


def test_nothing_is_changed_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        store = session._journal._store
        assert store is not None
        store.wait_for_locks(is_patient=False)
        with closing(sqlite3.connect(run_file(tmp_path, rank=0))) as other:
            other.execute("BEGIN IMMEDIATE")
            await steer(session, trainer, 10)
            assert trainer.settings.capacity_rows == 60
            assert not report_of(tmp_path).journal_is_writing
            other.rollback()
        await steer(session, trainer, 20)
        await session.close()
        assert trainer.settings.capacity_rows > 600

    asyncio.run(run())
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        assert reader.verify().holds
        (gap,) = [row for row in reader.audit() if row.tool == "gap"]
        calls = [row.call_id for row in reader.audit() if row.kind == "effect"]
        intents = {row.call_id for row in reader.audit() if row.kind == "intent"}
    assert json.loads(gap.result or "")["lost"]["windows"] == 10
    assert set(calls) == intents
    assert not report_of(tmp_path).journal_is_writing


def last_change_of(folder: Path) -> LastChange:
    (counts,) = steering_of(run_config(hosts=1, trainers_per_host=1), folder)
    assert counts.last_change is not None
    assert counts.applied == counts.confirmed + counts.reverted + counts.abandoned
    return counts.last_change


def test_a_change_that_the_run_ended_before_it_was_tried_is_told_as_unjudged(
    tmp_path: Path,
) -> None:
    async def run() -> Change:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(session, trainer, 1)
        await session.close()
        return Change(capacity_rows=trainer.settings.capacity_rows)

    made = asyncio.run(run())
    last = last_change_of(tmp_path)
    assert last.judgement == "unjudged"
    assert f"capacity 60 -> {made.capacity_rows:,}" in last.change


def test_the_last_change_is_told_however_many_decisions_to_keep_come_after(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        bound = {"max_buffer_rows": 3000}  # with all rows nothing more would be decided
        trainer.workload = trainer.workload.model_copy(update=bound)
        session = await opened(trainer, tmp_path)
        await steer(session, trainer, 40)
        await session.close()

    asyncio.run(run())
    report = report_of(tmp_path)
    assert report.last is not None
    assert report.last.plan.change.is_empty
    assert last_change_of(tmp_path).judgement in ("confirmed", "reverted")


def test_a_trial_that_a_cut_budget_ends_counts_as_abandoned(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(400)
        session = await opened(trainer, tmp_path)
        while report_of(tmp_path).phase != "on trial":
            await steer(session, trainer, 1)
        (tmp_path / "control" / BUDGET_FILE).write_text(f"{70 * ROW_BYTES}\n")
        await steer(session, trainer, 2)
        await session.close()
        assert trainer.settings.capacity_rows <= 70

    asyncio.run(run())
    assert report_of(tmp_path).counts.abandoned == 1
    assert last_change_of(tmp_path).judgement == "confirmed"


def test_the_hot_set_of_an_earlier_run_is_laid_out_and_asked_for_before_the_first_batch(
    tmp_path: Path,
) -> None:
    trainer, memory = make_trainer(60), tmp_path / "memory.db"
    hot = HotSet(np.arange(50, dtype=np.int64), np.ones(50, dtype=np.float32))
    with Experience(memory) as experience:
        experience.keep_hot_set(hot, trainer.workload)

    async def run() -> None:
        session = await opened(trainer, tmp_path, past=memory)
        await session.close()

    asyncio.run(run())
    found = HotSet.load(hot_set_beside(tmp_path / "control" / "rank0.sock"))
    assert found is not None
    assert found.nodes.tolist() == hot.nodes.tolist()
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        (episode,) = reader.episodes()
        asked = FetchTargets(source="hot_set", row_budget=50, while_idle=True)
        assert episode.plan.change == Change(fetch_targets=asked)
        assert episode.observation.hot_rows == 50
        intent = next(row for row in reader.audit() if row.kind == "intent")
    assert "ids" not in (intent.arguments or "")


def test_rows_fetched_before_the_first_window_count_as_a_decision_that_was_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, memory = make_trainer(60), tmp_path / "memory.db"
    monkeypatch.setattr(trainer._policy, "refusal", lambda change: None)  # knows the hot set
    with Experience(memory) as experience:
        experience.keep_hot_set(
            HotSet(np.arange(50, dtype=np.int64), np.ones(50, dtype=np.float32)), trainer.workload
        )

    async def run() -> None:
        session = await opened(trainer, tmp_path, past=memory)
        await session.close()

    asyncio.run(run())
    counts = report_of(tmp_path).counts
    assert (counts.decisions, counts.applied, counts.confirmed) == (1, 1, 1)


def test_a_decision_that_was_cut_off_after_it_was_recorded_is_counted(tmp_path: Path) -> None:
    async def run() -> None:
        trainer = make_trainer(60)
        session = await opened(trainer, tmp_path)
        told = len(read_episodes(tmp_path))
        while len(read_episodes(tmp_path)) == told:
            await session._steering.take(trainer.window())
        assert session._report.counts.decisions == told
        await session.close()

    asyncio.run(run())
    assert report_of(tmp_path).counts.decisions == len(read_episodes(tmp_path))


def read_episodes(folder: Path) -> list[Episode]:
    with RunReader(run_file(folder, rank=0)) as reader:
        return reader.episodes()
