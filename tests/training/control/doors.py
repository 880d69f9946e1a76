"""A steered policy without a trainer: a door, whoever may steer through it, and a loop of steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rudder.training.buffer.policy import Policy
from rudder.training.control.port import ControlPort
from rudder.training.control.steering import OFF_FILE, Steering
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import buffer_of

WAIT_S = 20.0


class Trainer:
    """Takes steps all the time, and attends to its door between them, as a loader's thread does."""

    def __init__(self, folder: Path, *, heartbeat_timeout_s: float = 30.0, rank: int = 3) -> None:
        self.path = folder / "control" / f"rank{rank}.sock"
        self.policy: Policy = buffer_of(100)
        self.door = ControlPort(self.path, rank=rank)
        self.off_file = self.path.parent / OFF_FILE
        self.step = 0
        self._steering = Steering(
            self.door,
            self.policy,
            rank=rank,
            max_buffer_rows=1000,
            off_file=self.off_file,
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

    def _run(self) -> None:
        while not self._done.is_set():
            self._steering.attend(self.step)
            self.step += 1
            time.sleep(0.001)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


@contextmanager
def stepping(folder: Path, *, heartbeat_timeout_s: float = 30.0) -> Iterator[Trainer]:
    with Trainer(folder, heartbeat_timeout_s=heartbeat_timeout_s) as trainer:
        yield trainer
