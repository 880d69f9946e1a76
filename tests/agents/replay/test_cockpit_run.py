"""Decisions of a controller, restarted and with a budget that is cut, come out equal."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rudder.agents.cockpit import Cockpit
from rudder.training.control.steering import BUDGET_FILE
from rudder.training.steering_options import SteeringOptions
from tests.agents.replay.conftest import replayed
from tests.agents.replay.made import Make

LIMIT = "a limit was kept to: nothing was decided"


async def steer(folder: Path, options: SteeringOptions) -> None:
    trainer = Make(num_remote=1000, draws=100).trainer()
    for _ in range(2):
        cockpit = await Cockpit.open(
            trainer.workload, sender=trainer, options=options, folder=folder,
            socket=folder / "rank0.sock",
        )  # fmt: skip
        for number in range(24):
            if number == 16:
                (folder / BUDGET_FILE).write_text("20000")
            await cockpit.take(trainer.window())
        await cockpit.close()
        (folder / BUDGET_FILE).unlink()


def test_a_controllers_decisions_come_out_equal(tmp_path: Path) -> None:
    asyncio.run(steer(tmp_path, SteeringOptions(objective="traffic")))
    found = replayed(tmp_path / "steering" / "rank0.db")
    decided = [each for each in found if each.reason != LIMIT]
    assert len(decided) > 8
    assert len(decided) < len(found)
    assert {each.result for each in decided} == {"equal"}
