"""Two simulated trainers of one host share its memory budget: the rows go to who stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from rudder.agents.controller.cpu_budget import CpuBudget
from rudder.agents.controller.session import ControllerSession
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.control.finished_window import FinishedWindow
from rudder.training.control.memory_quota import Allotment
from rudder.training.control.peers import Peers
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import STREAM

ROW_BYTES = 400
FAIR_ROWS = 1500
FAST, SLOW = Costs(row_ms=0.002), Costs(row_ms=0.3)


class RunProgress:
    """A store of one process, with what is used of torch's."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def set(self, key: str, value: str, /) -> None:
        self._texts[key] = value

    def get(self, key: str, /) -> bytes:
        return self._texts[key].encode()

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        return [self.get(key) for key in keys]

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        if self._texts.get(key, "") == expected:
            self._texts[key] = desired
        return self.get(key)

    def has_extended_api(self) -> bool:
        return True


class Housed:
    """A simulated trainer with a peer on its host; its door keeps to the budget."""

    def __init__(self, rank: int, progress: RunProgress, *, costs: Costs) -> None:
        self.trainer = SimulatedTrainer(
            STREAM,
            settings=BufferSettings(capacity_rows=FAIR_ROWS, lookahead_batches=48),
            costs=costs,
            row_bytes=ROW_BYTES,
            seed=rank,
        )
        update = {"rank": rank, "world_size": 2, "trainers_on_host": 2}
        self.workload = self.trainer.workload.model_copy(update=update)
        self.allotment = Allotment(self.workload, budget_bytes=2 * FAIR_ROWS * ROW_BYTES)
        self._peers = Peers(progress, rank=rank, world_size=2, run_key="5e")

    async def open(self, folder: Path) -> Self:
        self._session = await ControllerSession.open(
            self.workload,
            sender=self,
            options=SteeringOptions(memory_budget_bytes=2 * FAIR_ROWS * ROW_BYTES),
            folder=folder,
            socket=folder / "control" / f"rank{self.workload.rank}.sock",
            cpu=CpuBudget(fraction=1000, calm_fraction=1000),
        )
        return self

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        rows = change.capacity_rows
        if rows is not None and not self.allotment.hold(rows):
            now = await self.trainer.send(Change(), issued_at_step=None)
            return now.model_copy(update={"outcome": "refused", "reason": "beyond its part"})
        return await self.trainer.send(change, issued_at_step=issued_at_step)

    async def train(self) -> None:
        window = self.trainer.window().model_copy(update={"rank": self.workload.rank})
        told = FinishedWindow(window).completed(self._peers, allotment=self.allotment)
        await self._session.take(told)

    async def close(self) -> None:
        await self._session.close()

    @property
    def rows(self) -> int:
        return self.trainer.settings.capacity_rows


def rows_over_time(folder: Path, costs: Sequence[Costs], *, windows: int) -> list[list[int]]:
    """Capacities of both trainers after each window."""

    async def run() -> list[list[int]]:
        progress = RunProgress()
        both = [
            await Housed(rank, progress, costs=each).open(folder) for rank, each in enumerate(costs)
        ]
        seen = []
        for _ in range(windows):
            for each in both:
                await each.train()
                seen.append([one.rows for one in both])
        for each in both:
            await each.close()
        return seen

    return asyncio.run(run())


@pytest.mark.parametrize("slow", [0, 1])
def test_memory_moves_to_the_trainer_on_the_slow_link(tmp_path: Path, slow: int) -> None:
    costs = [FAST, FAST]
    costs[slow] = SLOW
    seen = rows_over_time(tmp_path, costs, windows=80)
    assert max(sum(rows) for rows in seen) <= 2 * FAIR_ROWS
    assert seen[-1][slow] > 1.25 * FAIR_ROWS
    assert seen[-1][1 - slow] < 0.75 * FAIR_ROWS


def test_a_trainer_that_stalls_is_faster_for_it(tmp_path: Path) -> None:
    def seconds(folder: Path, *, is_shared: bool) -> float:
        async def run() -> float:
            progress = RunProgress()
            both = [
                await Housed(rank, progress if is_shared else RunProgress(), costs=costs).open(
                    folder
                )
                for rank, costs in enumerate((FAST, SLOW))
            ]
            for _ in range(60):
                for each in both:
                    await each.train()
            for each in both:
                await each.close()
            return both[1].trainer.seconds

        return asyncio.run(run())

    shared, apart = (
        seconds(tmp_path / name, is_shared=name == "shared") for name in ("shared", "apart")
    )
    assert shared < 0.85 * apart
