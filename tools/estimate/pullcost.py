"""What rows cost in time: from rows over the network to the trainer standing still for them.

The loader thread samples, assembles, and waits for rows when it has nothing else to do; the
trainer computes meanwhile, and stands still where the loader is later.

    wait(rows) = rest + max(0, loader(rows) - trainer)
    loader(rows) = loader now + max(thread, net(rows)) - max(thread, net now)
    net(rows) = net now + ms_per_row * (rows - rows now)

thread: what the loader does itself. loader now: the time in which it works or waits for rows; where
the trainer waits and the loader is never idle, it sets the pace, and takes as long as the step.
net now: as long as that where the loader waits for rows at all, else the time that pulls take,
hidden behind the thread. So fewer rows take away wait until none is left or the thread itself is
too slow, and where the trainer does not wait, more rows eat the slack first. rest: wait that no
pace explains, such as the first batch of an epoch, or a host that is busy with something else while
the loader is idle. A longer lookahead changes rows, and time only through them.

On a link that rows have filled before, what delays the rest (busy_link.py) counts as wait too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rudder.tools.calls import StepTimes
from rudder.tools.constants import (
    BUSY_SHARE,
    CHANGED_WAIT_SHARE,
    COST_WINDOWS,
    FILLED_PULL_SHARE,
    FILLED_WAIT_SHARE,
    FORGET,
    IDLE_SHARE,
    LEAST_BUSY_SHARE,
    MOST_BUSY_SHARE,
    PRESENT_WINDOWS,
    PRIOR_MS_PER_PULL,
    WORTH_WAIT_SHARE,
)
from rudder.tools.estimate.means import Means, of_now
from rudder.training.metrics import Window

# A link that rows have been seen to fill: what else goes over it waits behind them.
#
# Gradients and sampling share the link with rows. Where rows take the part u of its time, the rest
# takes 1 / (1 - u) times as long as alone: processor sharing, Kleinrock, Queueing Systems, vol. 2.


@dataclass(frozen=True)
class BusyLink:
    """ms_per_row: how long the link is busy with a row, at the most; blocked_ms: per step, what
    the trainer is blocked within a step where rows leave it most room."""

    ms_per_row: float
    blocked_ms: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> BusyLink | None:
        """From the last window on whose rows filled the link; None where none did.

        windows: all of the run, the first of which waits for a start.
        """
        timed = [each for each in windows[1:] if each.num_steps and each.wall_seconds]
        filled = [number for number, window in enumerate(timed) if _is_filled(window)]
        if not filled:
            return None
        since = timed[filled[-1] :]
        return cls(
            ms_per_row=min(_ms_per_row(window) for window in since),
            blocked_ms=min(1000 * each.seconds.blocked / each.num_steps for each in timed),
        )

    def delay_ms(self, rows: float, *, step_ms: float) -> float:
        """Per step: how much longer all else takes than on a link that is hardly busy."""
        if step_ms <= 0:
            return 0.0
        busy = min(max(self.ms_per_row * rows / step_ms, LEAST_BUSY_SHARE), MOST_BUSY_SHARE)
        return self.blocked_ms * (1 / (1 - busy) - 1 / (1 - LEAST_BUSY_SHARE))


def _is_filled(window: Window) -> bool:
    wall = window.wall_seconds or 0.0
    return (
        window.rows.rows_fetched.of_batches > 0
        and window.seconds.pull > FILLED_PULL_SHARE * wall
        and window.stalled_seconds > FILLED_WAIT_SHARE * wall
    )


def _ms_per_row(window: Window) -> float:
    rows = window.rows.rows_fetched.of_batches
    return 1000 * (window.wall_seconds or 0.0) / rows if rows else float("inf")


@dataclass(frozen=True)
class PullCost:
    """The model, fitted; all in ms per step. rows: fetched per step at present; core_wait_ms,
    blocked_ms, rows_ms: as in StepTimes, at present."""

    rows: float
    wait_ms: float
    trainer_ms: float
    thread_ms: float
    net_ms: float
    loader_ms: float
    fixed_ms: float
    ms_per_row: float
    link: BusyLink | None = None
    core_wait_ms: float = 0.0
    blocked_ms: float = 0.0
    rows_ms: float = 0.0

    @classmethod
    def fit(cls, windows: Sequence[Window]) -> PullCost | None:
        """Fit to the last windows; None where there is no step.

        All of them tell what pulls cost however few the rows; the last three, as far as they are
        of now, what rows cost, for bandwidth changes.
        """
        recent = [each for each in windows[-COST_WINDOWS:] if each.num_steps]
        points = [_Point.of([window]) for window in recent]
        if not points:
            return None
        now = _Point.of(of_now(recent)[-PRESENT_WINDOWS:])
        fixed = min(_fixed_ms(points), now.busy_ms)
        slope = (now.busy_ms - fixed) / now.rows if now.rows > 0 else 0.0
        loader = now.loader_ms
        return cls(
            rows=now.rows,
            wait_ms=now.wait_ms,
            trainer_ms=now.step_ms - now.wait_ms,
            thread_ms=now.thread_ms,
            net_ms=loader if now.waits_for_rows else min(now.busy_ms, loader),
            loader_ms=loader,
            fixed_ms=fixed,
            ms_per_row=slope,
            link=BusyLink.of(windows),
            core_wait_ms=now.core_wait_ms,
            blocked_ms=now.blocked_ms,
            rows_ms=now.rows_ms,
        )

    def times(self, rows: float) -> StepTimes:
        """Where a step's time would go with so many rows; the trainer computes as now."""
        rows_ms = self.rows_ms * rows / self.rows if self.rows else 0.0
        return StepTimes(
            wait_ms=self.exposed_wait_ms(rows),
            model_ms=max(self.trainer_ms - self.core_wait_ms - self.blocked_ms, 0.0),
            core_wait_ms=self.core_wait_ms,
            blocked_ms=self.blocked_ms,
            loader_ms=self.thread_ms + rows_ms,
            rows_ms=rows_ms,
            link_ms=max(self.net_ms + self.ms_per_row * (rows - self.rows), 0.0),
        )

    def exposed_wait_ms(self, rows: float) -> float:
        """Exposed wait per step if so many rows were fetched per step; it rises with them."""
        return self._wait_ms(rows, trainer_ms=self.trainer_ms)

    def worst_wait_ms(self, rows: float) -> float:
        """The same with as fast a trainer as may come to light.

        One that waits for rows has not shown its pace: its gradients queue behind rows, and both
        share processors. The more it waits, the less is known.
        """
        step_ms = self.trainer_ms + self.wait_ms
        known = self.trainer_ms / step_ms if step_ms and rows < self.rows else 1.0
        return self._wait_ms(rows, trainer_ms=known * self.trainer_ms)

    def _wait_ms(self, rows: float, *, trainer_ms: float) -> float:
        net = self.net_ms + self.ms_per_row * (rows - self.rows)
        pace, pace_now = max(self.thread_ms, net), max(self.thread_ms, self.net_ms)
        loader = self.loader_ms + pace - pace_now
        explained = max(self.loader_ms - self.trainer_ms, 0.0)
        rest = max(self.wait_ms - explained, 0.0)
        wait_ms = rest + max(loader - trainer_ms, 0.0)
        if self.link is None:
            return wait_ms
        return wait_ms + self.link.delay_ms(rows, step_ms=self.trainer_ms + wait_ms)

    def idle_ms(self, rows: float) -> float:
        """Per step, what the link has left beside so many rows a step."""
        net = self.net_ms + self.ms_per_row * (rows - self.rows)
        return max(self.trainer_ms - max(net, 0.0), 0.0)

    @property
    def spare_ms(self) -> float:
        """By how much the loader is ahead of the trainer, per step; negative: behind."""
        return self.trainer_ms - self.loader_ms


@dataclass(frozen=True)
class _Point:
    """Windows, per step; busy_ms: the network, no longer than the step; pull_ms: the loader
    thread waiting for it, and for rows_ms of that taking rows in."""

    rows: float
    pulls: float
    step_ms: float
    wait_ms: float
    thread_ms: float
    busy_ms: float
    pull_ms: float
    core_wait_ms: float
    blocked_ms: float
    rows_ms: float

    @property
    def loader_ms(self) -> float:
        """What the loader takes for a batch; no longer than the trainer where that never waits.

        The time that pulls take says little: they overlap, and answers wait for processors.
        """
        taken = min(self.thread_ms + self.pull_ms, self.step_ms - self.wait_ms)
        if self.wait_ms <= CHANGED_WAIT_SHARE * self.step_ms:
            return taken
        return taken + self._sets_the_pace * (self.step_ms - taken)

    @property
    def _sets_the_pace(self) -> float:
        """How far the loader is what the trainer waits for: 0 where it is idle itself, to 1."""
        busy = (self.thread_ms + self.pull_ms) / self.step_ms if self.step_ms else 0.0
        return min(max((busy - IDLE_SHARE) / (BUSY_SHARE - IDLE_SHARE), 0.0), 1.0)

    @property
    def waits_for_rows(self) -> bool:
        """Whether the loader thread has to wait for the network."""
        return self.pull_ms > CHANGED_WAIT_SHARE * self.step_ms

    @classmethod
    def of(cls, windows: Sequence[Window]) -> _Point:
        means = Means.of(windows)
        assert means is not None
        step_ms = means.step_ms or means.compute_ms + means.exposed_wait_ms
        thread_ms = means.sample_ms + means.assemble_ms
        busy_ms = _slowest_owner_ms(windows)
        if busy_ms is None:
            busy_ms = means.pull_ms
        return cls(
            rows=means.rows_fetched,
            pulls=max((o.pulls for w in windows for o in w.owners), default=0) / means.num_steps,
            step_ms=step_ms,
            wait_ms=min(means.exposed_wait_ms, step_ms),
            thread_ms=thread_ms,
            busy_ms=min(busy_ms, step_ms),
            pull_ms=means.pull_ms,
            core_wait_ms=means.core_wait_ms,
            blocked_ms=means.blocked_ms,
            rows_ms=means.pull_work_ms,
        )


def _slowest_owner_ms(windows: Sequence[Window]) -> float | None:
    """Answers of several owners come side by side, so the slowest one counts; None: unknown.

    Pulls of several batches overlap, so this is an upper end of the time the network was busy.
    """
    seconds: dict[int, float] = {}
    for window in windows:
        for owner in window.owners:
            seconds[owner.part] = seconds.get(owner.part, 0.0) + owner.seconds
    steps = sum(window.num_steps for window in windows)
    return 1e3 * max(seconds.values()) / steps if seconds else None


def _fixed_ms(points: Sequence[_Point]) -> float:
    """What a step's pulls cost however few the rows, by weighted least squares over the windows.

    A prior where all windows have much the same rows; never more than the cheapest window.
    """
    most = min(point.busy_ms for point in points)
    weights = np.array([FORGET**age for age in range(len(points) - 1, -1, -1)])
    rows = np.array([point.rows for point in points])
    busy = np.array([point.busy_ms for point in points])
    mean_rows = float(np.average(rows, weights=weights))
    spread = float(np.average((rows - mean_rows) ** 2, weights=weights))
    if spread <= (WORTH_WAIT_SHARE * mean_rows) ** 2:
        return min(PRIOR_MS_PER_PULL * max(points[-1].pulls, 1.0), most)
    mean_busy = float(np.average(busy, weights=weights))
    both = float(np.average((rows - mean_rows) * (busy - mean_busy), weights=weights))
    return min(max(mean_busy - max(both / spread, 0.0) * mean_rows, 0.0), most)
