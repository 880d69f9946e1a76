"""What one rank measures of its epochs, also over a stop and a resume."""

from __future__ import annotations

import time

import torch

from rudder.training.loading.batch import StepAccounts
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds
from rudder.training.settings import Frozen


class EpochsSoFar(Frozen):
    """One rank's epochs at a checkpoint: those that are over, and the sums of the one under way."""

    epochs: tuple[EpochMetrics, ...]
    num_steps: int
    rows: RowCounts
    seconds: Seconds
    step_seconds: tuple[float, ...]
    loss: float
    elapsed_seconds: float
    num_skipped: int = 0


class EpochRecorder:
    """One rank's epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochMetrics] = []
        self._resumed: EpochsSoFar | None = None
        self.start_epoch(0)

    @property
    def epoch(self) -> int:
        """The epoch under way, or the last one."""
        return self._epoch

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._num_steps

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins now."""
        self._epoch, self._started = epoch, time.perf_counter()
        self._num_steps = 0
        self._rows, self._seconds = RowCounts(), Seconds()
        self._step_seconds: list[float] = []
        self._open: StepAccounts | None = None
        self._loss = torch.zeros(())
        self._num_skipped = 0
        earlier, self._resumed = self._resumed, None
        if earlier is not None:
            self._started -= earlier.elapsed_seconds
            self._num_steps, self._rows = earlier.num_steps, earlier.rows
            self._seconds = earlier.seconds
            self._step_seconds = list(earlier.step_seconds)
            self._loss = torch.tensor(earlier.loss)
            self._num_skipped = earlier.num_skipped

    def resume(self, earlier: EpochsSoFar) -> None:
        """The next epoch that begins is one of which so much is done."""
        self.epochs, self._resumed = list(earlier.epochs), earlier

    def so_far(self) -> EpochsSoFar:
        """What `resume` needs."""
        opened = self._open or StepAccounts(RowCounts(), Seconds())
        return EpochsSoFar(
            epochs=tuple(self.epochs),
            num_steps=self._num_steps,
            rows=self._rows + opened.rows,
            seconds=self._seconds + opened.seconds,
            step_seconds=tuple(self._step_seconds),
            loss=float(self._loss),
            num_skipped=self._num_skipped,
            elapsed_seconds=time.perf_counter() - self._started,
        )

    def step(self, accounts: StepAccounts, *, loss: torch.Tensor | None) -> None:
        """A step is done; loss: scalar, kept as a tensor so that nothing waits for it; None if the
        step was skipped.

        Its accounts are complete, and added, once the next step is done or the epoch is over.
        """
        self._add_open()
        self._open = accounts
        self._num_steps += 1
        if loss is None:
            self._num_skipped += 1
        else:
            self._loss = loss.detach() + self._loss.to(loss.device)

    def finish_epoch(self) -> EpochMetrics:
        """The epoch's sums."""
        self._add_open()
        ordered = sorted(self._step_seconds)
        num_made = self._num_steps - self._num_skipped
        metrics = EpochMetrics(
            epoch=self._epoch,
            num_steps=self._num_steps,
            seconds_total=time.perf_counter() - self._started,
            seconds=self._seconds,
            rows=self._rows,
            loss=float(self._loss) / num_made if num_made else None,
            num_skipped=self._num_skipped,
            step_seconds_p99=ordered[int(0.99 * len(ordered))] if ordered else None,
        )
        self.epochs.append(metrics)
        self.start_epoch(self._epoch + 1)
        return metrics

    def _add_open(self) -> None:
        done, self._open = self._open, None
        if done is not None:
            self._rows += done.rows
            self._seconds += done.seconds
            self._step_seconds.append(done.seconds.exposed_wait + done.seconds.compute)
