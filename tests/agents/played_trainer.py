"""A trainer without training: the real control port, and recorded windows at a high rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.control.peers import FinishedWindow
from rudder.training.control.service import ControlPort
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings, Change, Command
from rudder.training.workload import Workload
from tests.training.buffer.player import buffer_of
from tests.training.control.steered import Trainer

_REMOTE = 6000
_BEGINS_WITH = 1000
_LEVELS = (0, 500, 1000, 2000, 4000, 6000)
_EPOCHS = 10**6


@dataclass(frozen=True)
class Score:
    """What a trainer plays: its workload, and windows of each capacity in `windows`."""

    workload: Workload
    windows: Mapping[int, Sequence[Window]]

    @classmethod
    def recorded(cls, *, num_windows: int = 12) -> Self:
        """From a simulated trainer whose slow network a larger buffer can hide.

        num_windows: of each capacity; they are played over and over.
        """
        stream, costs = ZipfStream(num_remote=_REMOTE, draws=600), Costs(row_ms=0.1)
        windows, workload = {}, None
        for rows in _LEVELS:
            settings = buffer_of(rows).settings
            trainer = SimulatedTrainer(stream, settings=settings, costs=costs)
            windows[rows] = [trainer.window() for _ in range(num_windows)]
            if rows == _BEGINS_WITH:
                workload = trainer.workload.model_copy(update={"epochs": _EPOCHS})
        assert workload is not None
        return cls(workload, windows)

    def window(self, number: int, settings: BufferSettings) -> Window:
        """What is told of window `number` under these settings."""
        level = min(self.windows, key=lambda rows: abs(rows - settings.capacity_rows))
        played = self.windows[level][number % len(self.windows[level])]
        step = number * WINDOW_STEPS
        update = {
            "index": number,
            "first_step": step,
            "epoch": step // self.workload.batches_per_epoch,
            "settings": settings,
            "buffered_rows": min(played.buffered_rows, settings.capacity_rows),
        }
        return played.model_copy(update=update)


@dataclass
class ChangeStats:
    """What a trainer was told to change, and what it did.

    told: commands with a change; applied: ids of those it said it had applied; changes: how often
    its policy's settings were set; needless: of these, to settings that were in force already.
    """

    told: list[Command] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    changes: int = 0
    needless: int = 0


class _CountingPort(ControlPort):
    """A port that counts commands on their way in and answers on their way out."""

    def __init__(self, path: Path, *, workload: Workload, stats: ChangeStats) -> None:
        super().__init__(path, workload.rank, workload=workload)
        self._stats = stats
        self.came = threading.Event()

    def take(self) -> Command | None:
        command = super().take()
        if command is not None and not command.change.is_empty:
            self._stats.told.append(command)
            self.came.set()
        return command

    def answer(self, applied: Applied) -> None:
        told = self._stats.told
        if told and told[-1].command_id == applied.command_id and applied.outcome == "applied":
            self._stats.applied.append(applied.command_id)
        super().answer(applied)


class PlayedTrainer(Trainer):
    """Trains on nothing: attends to its port each step, publishes a window every `window_s`."""

    port: _CountingPort

    def __init__(self, folder: Path, *, score: Score, window_s: float = 0.02) -> None:
        self.stats = ChangeStats()
        self._score, self._step_s = score, window_s / WINDOW_STEPS
        super().__init__(
            folder,
            rank=score.workload.rank,
            rows=_BEGINS_WITH,
            workload=score.workload,
        )
        self._apply = self.policy.apply
        self.policy.apply = self._counted  # type: ignore[method-assign]

    def wait_for_command(self, timeout_s: float) -> None:
        """Until the next change is asked for, or no longer."""
        self.port.came.clear()
        self.port.came.wait(timeout_s)

    def _open_port(self, rank: int, workload: Workload | None) -> ControlPort:
        assert workload is not None
        return _CountingPort(self.path, workload=workload, stats=self.stats)

    def _counted(self, change: Change) -> None:
        before = self.policy.settings
        self._apply(change)
        self.stats.changes += 1
        asks_once = change.replace_now or change.fetch_targets is not None
        self.stats.needless += self.policy.settings == before and not asks_once

    def _run(self) -> None:
        step, began = 0, time.monotonic()
        while not self._done.is_set():
            self._steering.attend(step)
            step += 1
            if step % WINDOW_STEPS == 0:
                number = step // WINDOW_STEPS - 1
                window = self._score.window(number, self.policy.settings)
                self.port.publish(FinishedWindow(window))
            time.sleep(max(0.0, began + step * self._step_s - time.monotonic()))
