"""Recorded runs to replay."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from rudder.agents.replay.recorded import Replayed, replay
from rudder.memory.run.run_reader import RunReader
from tests.agents.replay.made import Make, make_run


def replayed(path: Path) -> list[Replayed]:
    """All decisions of a file, made again."""

    async def gather() -> list[Replayed]:
        with RunReader(path) as reader:
            return [each async for each in replay(reader)]

    return asyncio.run(gather())


@pytest.fixture(scope="session")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded planner that kept, confirmed and reverted."""
    path = tmp_path_factory.mktemp("steered") / "steering" / "rank0.db"
    make_run(path, Make(windows=32, num_remote=1500, draws=150))
    return path


@pytest.fixture
def file(steered: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copy(steered, tmp_path / "rank0.db"))
