"""Sums what happens in steps to epochs; windows are the loader's, see loading/window_meter.py."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from rudder.training.metrics import EpochMetrics, Rows, Seconds


@dataclass
class _Sum:
    """Sums since an epoch began."""

    steps: int = 0
    rows: Rows = field(default_factory=Rows)
    seconds: Seconds = field(default_factory=Seconds)
    of_steps: list[float] = field(default_factory=list)

    def add(self, rows: Rows, seconds: Seconds) -> None:
        self.steps += 1
        self.rows += rows
        self.seconds += seconds
        self.of_steps.append(seconds.exposed_wait + seconds.compute)

    @property
    def step_seconds_p99(self) -> float | None:
        ordered = sorted(self.of_steps)
        return ordered[int(0.99 * len(ordered))] if ordered else None


class Recorder:
    """One rank's accounts."""

    def __init__(self) -> None:
        self._epoch = 0
        self._of_epoch = _Sum()
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
        self._of_epoch = _Sum()
        self._loss = None
        self._epoch_started = time.perf_counter()

    def step(self, *, rows: Rows, seconds: Seconds, loss: torch.Tensor) -> None:
        """A step is done; loss: scalar, kept as a tensor so that nothing waits for it."""
        self._of_epoch.add(rows, seconds)
        detached = loss.detach()
        self._loss = detached if self._loss is None else self._loss + detached

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
            step_seconds_p99=done.step_seconds_p99,
        )
        self.epochs.append(metrics)
        return metrics
