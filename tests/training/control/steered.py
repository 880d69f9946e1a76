"""A steered policy without a trainer: its control port, and a loop of steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rudder.training.buffer.hot_set import hot_set_beside
from rudder.training.buffer.policy import Policy
from rudder.training.control.service import ControlPort
from rudder.training.control.steering import OFF_FILE, CommandHandler, MemoryQuota
from rudder.training.settings import BufferSettings
from rudder.training.workload import Workload
from tests.training.buffer.player import buffer_of


class Trainer:
    """Takes steps all the time, and attends to its port between them, as a loader does."""

    def __init__(
        self,
        folder: Path,
        *,
        heartbeat_timeout_s: float = 30.0,
        rank: int = 3,
        quota: MemoryQuota | None = None,
        rows: int = 100,
        workload: Workload | None = None,
    ) -> None:
        self.path = folder / "control" / f"rank{rank}.sock"
        self.policy: Policy = buffer_of(rows)
        self.port = self._open_port(rank, workload)
        self.off_file = self.path.parent / OFF_FILE
        self.step = 0
        self._steering = CommandHandler(
            self.port,
            self.policy,
            rank=rank,
            quota=quota or MemoryQuota(workload or workload_of()),
            off_file=self.off_file,
            hot_set=hot_set_beside(self.path),
            heartbeat_timeout_s=heartbeat_timeout_s,
        )
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._steering.close()

    @property
    def settings(self) -> BufferSettings:
        return self.policy.settings

    def _open_port(self, rank: int, workload: Workload | None) -> ControlPort:
        return ControlPort(self.path, rank=rank, workload=workload)

    def _run(self) -> None:
        while not self._done.is_set():
            self._steering.attend(self.step)
            self.step += 1
            time.sleep(0.001)


@contextmanager
def stepping(folder: Path, *, heartbeat_timeout_s: float = 30.0) -> Iterator[Trainer]:
    with Trainer(folder, heartbeat_timeout_s=heartbeat_timeout_s) as trainer:
        yield trainer


def workload_of(
    *, rank: int = 0, trainers_on_host: int = 1, max_buffer_rows: int = 1000
) -> Workload:
    """Of one of the trainers that share a host; a row has 400 bytes."""
    return Workload(
        run_key="5e",
        rank=rank,
        world_size=8,
        trainers_on_host=trainers_on_host,
        part=0,
        num_parts=2,
        num_inner=10,
        num_halo=10_000,
        num_remote=10_000,
        row_bytes=400,
        batch_size=100,
        batches_per_epoch=10,
        epochs=None,
        fanouts=None,
        policy="lookahead",
        defaults=BufferSettings(capacity_rows=100),
        max_buffer_rows=max_buffer_rows,
    )
