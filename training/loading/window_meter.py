"""Sums what a loader's steps took to windows, as seen by the thread that trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rudder.training.control.messages import MAX_WINDOW_S, WINDOW_STEPS
from rudder.training.control.peers import FinishedWindow, SampledAccesses
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.loading.owner_accounts import sum_of_owners
from rudder.training.metrics import RowCounts, Seconds, Window
from rudder.training.settings import BufferSettings

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_PER_NANOSECOND = 1e-9


class ThreadSeconds(NamedTuple):
    """Of a thread since it began: on a core, and ready but waiting for one."""

    on_core: float
    ready: float

    @classmethod
    def now(cls) -> ThreadSeconds:
        """Of the calling thread; on a kernel that does not measure the waiting, none."""
        try:
            ran, waited, _ = _SCHEDSTAT.read_bytes().split()
        except (OSError, ValueError):
            return cls(time.thread_time(), 0.0)
        return cls(int(ran) * _PER_NANOSECOND, int(waited) * _PER_NANOSECOND)


class WindowMeter:
    """Measures steps: `begin`, `hand_over`, then `finish` when the next batch is wanted."""

    def __init__(
        self,
        rank: int,
        *,
        rate: float = 1.0,
        first_epoch: int = 0,
        first_window: int = 0,
        wanted_steps: Callable[[], int] = lambda: WINDOW_STEPS,
    ) -> None:
        """rate: share of nodes in the steps' accesses; first_epoch, first_window: their numbers;
        wanted_steps: steps of a window, asked for after each step."""
        self._wanted_steps = wanted_steps
        self._rank, self._rate = rank, rate
        self._epoch = first_epoch - 1
        self.num_windows = first_window
        self._begun = self._handed_over = 0.0
        self._thread = ThreadSeconds(0.0, 0.0)
        self._reset()

    @property
    def is_full(self) -> bool:
        """Whether a window's steps are done, or as many as there may be in a long time."""
        num_steps, is_long = len(self._steps), self._wall_seconds >= MAX_WINDOW_S
        return num_steps >= self._wanted_steps() or (is_long and num_steps >= WINDOW_STEPS)

    def start_epoch(self) -> None:
        """An epoch begins."""
        self._epoch += 1

    def begin(self) -> None:
        """A batch is wanted."""
        self._begun = time.perf_counter()

    def hand_over(self, batch: Batch) -> None:
        """It is here, and the trainer computes from now on."""
        self._handed_over, self._thread = time.perf_counter(), ThreadSeconds.now()
        self._number, self._step = batch.number, batch.accounts

    def leave_out(self, seconds: float) -> None:
        """So much of the step under way was no training."""
        self._begun += seconds
        self._handed_over += seconds

    def finish(self) -> None:
        """The step is done: completes the batch's accounts."""
        ended = time.perf_counter()
        compute, thread, before = ended - self._handed_over, ThreadSeconds.now(), self._thread
        core_wait = min(thread.ready - before.ready, compute)
        blocked = max(compute - core_wait - (thread.on_core - before.on_core), 0.0)
        self._step.seconds += Seconds(compute=compute, blocked=blocked, core_wait=core_wait)
        self._wall_seconds += ended - self._begun
        if not self._steps:
            self._first_step = self._number
        self._steps.append(self._step)

    def window(
        self,
        *,
        settings: BufferSettings,
        settings_since: int | None = None,
        buffered_rows: int,
        waiting_batches: int,
    ) -> FinishedWindow:
        """The window of the steps since the last one; begins a new one."""
        steps = self._steps
        window = Window(
            rank=self._rank,
            index=self.num_windows,
            epoch=self._epoch,
            first_step=self._first_step,
            num_steps=len(steps),
            rows=sum((step.rows for step in steps), RowCounts()),
            edge_rows=sum((step.edge_rows for step in steps), RowCounts()),
            seconds=sum((step.seconds for step in steps), Seconds()),
            settings=settings,
            settings_since=settings_since,
            buffered_rows=buffered_rows,
            waiting_batches=waiting_batches,
            wall_seconds=self._wall_seconds,
            owners=sum_of_owners(pull for step in steps for pull in step.pulls),
        )
        shown = tuple(step.accesses for step in steps if step.accesses is not None)
        accesses = SampledAccesses(self._rate, shown) if len(shown) == len(steps) else None
        self.num_windows += 1
        self._reset()
        return FinishedWindow(window, accesses)

    def _reset(self) -> None:
        self._first_step = 0
        self._wall_seconds: float = 0.0
        self._steps: list[StepAccounts] = []
