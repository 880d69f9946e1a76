"""Sums what happens in steps to windows and epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from rudder.training.metrics import EpochMetrics, Rows, Seconds, Window
from rudder.training.settings import BufferSettings

WINDOW_STEPS = 16


@dataclass
class _Sum:
    """Sums since a step; a reset makes a new one."""

    first_step: int
    steps: int = 0
    rows: Rows = field(default_factory=Rows)
    seconds: Seconds = field(default_factory=Seconds)

    def add(self, rows: Rows, seconds: Seconds) -> None:
        self.steps += 1
        self.rows += rows
        self.seconds += seconds


class Recorder:
    """One rank's accounts. Windows and epochs are reset when read."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._epoch = 0
        self._step = 0
        self._num_windows = 0
        self._window = _Sum(first_step=0)
        self._of_epoch = _Sum(first_step=0)
        self._epoch_started = 0.0
        self._loss: torch.Tensor | None = None
        self.epochs: list[EpochMetrics] = []

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._of_epoch.steps

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins now."""
        self._epoch = epoch
        self._of_epoch = _Sum(first_step=self._step)
        self._loss = None
        self._epoch_started = time.perf_counter()

    def step(self, *, rows: Rows, seconds: Seconds, loss: torch.Tensor) -> None:
        """A step is done; loss: scalar, kept as a tensor so that nothing waits for it."""
        self._step += 1
        self._window.add(rows, seconds)
        self._of_epoch.add(rows, seconds)
        detached = loss.detach()
        self._loss = detached if self._loss is None else self._loss + detached

    def window(
        self, *, settings: BufferSettings, buffered_rows: int, waiting_batches: int
    ) -> Window | None:
        """The window, once it has WINDOW_STEPS steps."""
        if self._window.steps < WINDOW_STEPS:
            return None
        done, self._window = self._window, _Sum(first_step=self._step)
        self._num_windows += 1
        return Window(
            rank=self._rank,
            index=self._num_windows - 1,
            epoch=self._epoch,
            first_step=done.first_step,
            num_steps=done.steps,
            rows=done.rows,
            seconds=done.seconds,
            settings=settings,
            buffered_rows=buffered_rows,
            waiting_batches=waiting_batches,
        )

    def finish_epoch(self) -> EpochMetrics:
        """The epoch's sums."""
        done = self._of_epoch
        loss = None if self._loss is None else float(self._loss) / max(done.steps, 1)
        metrics = EpochMetrics(
            epoch=self._epoch,
            num_steps=done.steps,
            seconds_total=time.perf_counter() - self._epoch_started,
            seconds=done.seconds,
            rows=done.rows,
            loss=loss,
        )
        self.epochs.append(metrics)
        return metrics
