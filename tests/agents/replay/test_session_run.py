"""Decisions of a controller, restarted and with a budget that is cut, come out equal."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from rudder.agents.controller.session import ControllerSession
from rudder.agents.guard import LIMITS
from rudder.agents.replay.what_if import what_if
from rudder.memory.run.run_reader import RunReader
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.training.control.steering import BUDGET_FILE
from rudder.training.steering_options import SteeringOptions
from tests.agents.replay.conftest import replayed
from tests.agents.replay.made import Make


async def steer(folder: Path, options: SteeringOptions) -> None:
    trainer = Make(num_remote=1000, draws=100).trainer()
    for _ in range(2):
        session = ControllerSession(
            trainer.workload, sender=trainer, options=options, folder=folder,
            socket=folder / "rank0.sock",
            process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        )  # fmt: skip
        await session.begin()
        for number in range(24):
            if number == 16:
                (folder / BUDGET_FILE).write_text("20000")
            await session.take(trainer.window())
        await session.close()
        (folder / BUDGET_FILE).unlink()


def test_a_controllers_decisions_come_out_equal(tmp_path: Path) -> None:
    asyncio.run(steer(tmp_path, SteeringOptions(objective="traffic")))
    found = replayed(tmp_path / "steering" / "rank0.db")
    cuts = [each for each in found if each.episode.plan.planner == LIMITS]
    assert len(cuts) >= 1
    assert len(found) - len(cuts) > 8
    assert {each.result for each in found} == {"equal"}


def test_a_cut_that_was_made_to_another_limit_is_different(tmp_path: Path) -> None:
    asyncio.run(steer(tmp_path, SteeringOptions(objective="traffic")))
    path = tmp_path / "steering" / "rank0.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE decision_inputs SET content = json_set(content, '$.memory_budget_bytes', 8000)"
            " WHERE episode_id IN (SELECT episode_id FROM episodes WHERE planner = ?)",
            [LIMITS],
        )
    db.close()
    cuts = [each for each in replayed(path) if each.episode.plan.planner == LIMITS]
    assert {each.result for each in cuts} == {"different"}
    assert "plan.change.capacity_rows" in {each.field for each in cuts[0].differences}


def test_a_cut_has_an_outlook_and_no_other_planner(tmp_path: Path) -> None:
    asyncio.run(steer(tmp_path, SteeringOptions(objective="memory")))
    with RunReader(tmp_path / "steering" / "rank0.db") as reader:
        cuts = [each for each in what_if(reader) if each.episode.plan.planner == LIMITS]
    assert cuts
    assert all("decision" in [each.kind for each in cut.outlooks] for cut in cuts)
