"""A controller's connection to a real port: turns, which go through the trainer's store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from torch import distributed

from rudder.agents.controller.link import TrainerLink
from rudder.memory.sample import sample_window, sample_workload
from rudder.training.control.peers import FinishedWindow, Peers
from rudder.training.control.service import ControlPort
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings
from rudder.training.turn import RankTurn
from tests.waiting import until

TORCH: Any = distributed
TURN = RankTurn(
    number=1, rank=0, state="deciding", step=16, until_step=99,
    settings=BufferSettings(capacity_rows=9),
)  # fmt: skip


def port_of(folder: Path, rank: int) -> ControlPort:
    store = TORCH.FileStore(str(folder / "store"), 2)
    peers = Peers(store, rank=rank, world_size=2, run_key="5e")
    return ControlPort(folder / f"rank{rank}.sock", rank=rank, peers=peers)


def test_controllers_agree_on_a_turn_through_their_trainers(tmp_path: Path) -> None:
    async def both(ports: tuple[ControlPort, ControlPort]) -> Window:
        one, other = [await TrainerLink.open(tmp_path / f"rank{rank}.sock") for rank in (0, 1)]
        heard = other.messages()
        waiting = asyncio.ensure_future(anext(heard))
        reading = asyncio.ensure_future(anext(one.messages()))
        late = TURN.model_copy(update={"rank": 1})
        assert await one.write_turn(TURN, instead_of=None) == TURN
        assert await other.write_turn(late, instead_of=None) == TURN
        await asyncio.to_thread(until, lambda: ports[1].wants_accesses)
        workload = sample_workload(rank=1)
        window = sample_window(0, workload=workload).model_copy(update={"wall_seconds": 0.4})
        ports[1].publish(FinishedWindow(window))
        told = await waiting
        reading.cancel()
        assert isinstance(told, Window)
        for link in (one, other):
            await link.close()
        return told

    with port_of(tmp_path, 0) as first, port_of(tmp_path, 1) as second:
        assert asyncio.run(both((first, second))).turn == TURN


def test_a_trainer_without_others_has_no_turns(tmp_path: Path) -> None:
    async def ask() -> RankTurn | None:
        link = await TrainerLink.open(tmp_path / "rank0.sock")
        waiting = asyncio.ensure_future(anext(link.messages()))
        turn = await link.write_turn(TURN, instead_of=None)
        waiting.cancel()
        await link.close()
        return turn

    with ControlPort(tmp_path / "rank0.sock", rank=0):
        assert asyncio.run(ask()) is None
