"""A simulated job: ranks that train in step, as a team and each on its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from rudder.agents.replay.recorded import replay
from rudder.agents.turns import TEAM
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.job import JobRun, SimulatedJob, simulate_job
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

RANKS, NUM_REMOTE = 4, 3000


def job(*, slow: float = 1.0, rows: int = 60) -> SimulatedJob:
    """slow: times that a row costs on the last rank."""
    settings = BufferSettings(capacity_rows=rows, lookahead_batches=16)
    return SimulatedJob(
        [
            SimulatedTrainer(
                ZipfStream(num_remote=NUM_REMOTE, draws=300, seed=rank),
                settings=settings,
                costs=Costs(row_ms=0.2 * (slow if rank == RANKS - 1 else 1)),
                rank=rank,
                world_size=RANKS,
                seed=rank,
            )
            for rank in range(RANKS)
        ]
    )


def steered(found: SimulatedJob, *, are_agreed: bool = True) -> JobRun:
    options = SteeringOptions()
    return asyncio.run(simulate_job(found, windows=24, options=options, are_agreed=are_agreed))


def test_all_ranks_end_a_step_with_the_slowest_and_hear_of_each_other() -> None:
    found = job(slow=4.0)
    for _ in range(16):
        windows = found.step()
    assert len({trainer.seconds for trainer in found.trainers}) == 1
    assert [window.rank for _, window in windows] == list(range(RANKS))
    assert [len(window.peers) for _, window in windows] == [RANKS - 1] * RANKS
    waits = [window.seconds.exposed_wait for _, window in windows]
    blocked = [window.seconds.blocked for _, window in windows]
    assert max(waits[:-1]) < waits[-1]
    assert min(blocked[:-1]) > blocked[-1]


def test_one_decision_changes_all_ranks_and_asks_the_agents_once() -> None:
    found = job()
    team = steered(found)
    alone = steered(job(), are_agreed=False)
    assert {trainer.settings.capacity_rows for trainer in found.trainers} == {NUM_REMOTE}
    assert 2 * len(team.decisions) <= len(alone.decisions)
    by_turn = Counter(each.turn for each in team.episodes if each.applied is not None)
    assert max(by_turn.values()) == RANKS
    assert {each.planner for each in (e.plan for e in team.episodes)} == {"embedded", TEAM}
    assert team.seconds[-1] < 1.03 * alone.seconds[-1]
    assert team.disturbed_reverts == 0


def test_decisions_of_a_team_come_out_the_same_from_the_record(tmp_path: Path) -> None:
    journals: list[SqliteJournal] = []

    def journal_of(trainer: SimulatedTrainer) -> SqliteJournal:
        path = run_file(tmp_path, rank=trainer.workload.rank)
        journals.append(SqliteJournal.open(path, memory=None))
        journals[-1].begin(trainer.workload)
        return journals[-1]

    asyncio.run(simulate_job(job(), windows=16, options=SteeringOptions(), journal_of=journal_of))
    for journal in journals:
        journal.close()
    planners: set[str] = set()
    for rank in range(RANKS):
        with RunReader(run_file(tmp_path, rank=rank)) as reader:
            replayed = asyncio.run(_replayed(reader))
            planners |= {episode.plan.planner for episode in reader.episodes()}
            assert any(window.turn is not None for window in reader.windows())
        assert replayed
        assert set(replayed) == {"equal"}
    assert planners == {"embedded", TEAM}


async def _replayed(reader: RunReader) -> list[str]:
    return [each.result async for each in replay(reader)]


@pytest.mark.parametrize("slow", [1.0, 3.0])
def test_no_change_is_undone_for_what_another_rank_did(slow: float) -> None:
    assert steered(job(slow=slow)).disturbed_reverts == 0
