"""The what-if estimator: what a change would bring, from sampled accesses and measured times."""

from __future__ import annotations

import math
from collections.abc import Callable

from rudder.tools.calls import Effect, FetchCost, NotReadyError, OptOf, Range
from rudder.tools.constants import (
    MAX_COUNTED_BATCHES,
    MIN_BATCHES,
    MIN_SAMPLED_NODES,
    RECENT_WINDOWS,
    SIGMAS_95,
    WARM_BATCHES,
)
from rudder.tools.estimate.calibration import Learned, Share
from rudder.tools.estimate.growth import Growth, held_rows, settling_steps, without_growth
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import Means
from rudder.tools.estimate.pullcost import PullCost
from rudder.tools.estimate.sampled import SampledTrace
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings, Change


class WhatIf:
    """Predicts per-step rows fetched and exposed wait, once the buffer has settled.

    The run's own policy is replayed over the sampled accesses of the last batches; the last of
    them are counted, at most 128 and no more than half. A lookahead buffer that grows is replayed
    over batches to come instead. Answers are kept until the next window.

    `learned`: what stays from decision to decision, so that one can be made again; `on_answer`:
    told of each effect that somebody asked for.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._version = -1
        self._kept: dict[object, Effect] = {}
        self._replays: dict[object, IntArray] = {}
        self.learned = Learned()
        self._cost: PullCost | None = None
        self._means: Means | None = None
        self._growth: Growth | None = None
        self.on_answer: Callable[[Change | OptOf, Effect], None] = lambda asked, effect: None

    @property
    def is_ready(self) -> bool:
        """Whether enough batches were seen to say anything."""
        trace = self._history.trace
        if trace is None or trace.num_batches < MIN_BATCHES or self._history.latest is None:
            return False
        return int(trace.widths[_counted(trace)].sum()) >= MIN_SAMPLED_NODES

    @property
    def is_calibrated(self) -> bool:
        """Whether settled windows have confirmed the sample, under these settings or earlier."""
        self._refresh()
        return self.learned.is_measured

    @property
    def error_fraction(self) -> float:
        """How wrong past predictions of rows were (one sigma), or a prior."""
        return self.learned.error

    def learn(self, learned: Learned) -> None:
        """Know what another estimator had learned."""
        self.learned, self._version = learned, -1

    @property
    def spare_ms(self) -> float | None:
        """By how much the loader is ahead of the trainer, per step; None: not known."""
        self._refresh()
        return None if self._cost is None else self._cost.spare_ms

    @property
    def cost(self) -> PullCost | None:
        """The model of pull costs as of the last window; None where there is none."""
        self._refresh()
        return self._cost

    def present(self) -> Effect:
        """What the settings in force bring; raises NotReadyError."""
        return self.effect(Change())

    def effect(self, change: Change) -> Effect:
        """What the settings in force with this change bring.

        Of a one-off fetch the misses that it saves are counted, not the rows that it moves; of rows
        that come while the link idles, those that a growth makes room for.
        Whether the change is allowed is not asked. Raises NotReadyError.
        """
        self._refresh()
        wanted, once = _parts(change, self._history.settings)
        filled = self._filled_rows(change)
        key = (wanted, once, filled)
        if key not in self._kept:
            if self._is_growth(wanted, once):
                growth, sampled, steps = self._growth_to(wanted)
                share = growth.share(sampled, settling_steps=steps, filled_rows=filled)
            else:
                share = self._counted_share(self._rows(wanted, once))
            self._kept[key] = self._effect(share, wanted.capacity_rows)
        self.on_answer(change, self._kept[key])
        return self._kept[key]

    def fetch_cost(self, change: Change, *, rows_after: float = 0.0) -> FetchCost | None:
        """What the fetch targets of a change cost; None without any, or before a step was timed.

        rows_after: fetched per step under the change, for which the link is needed first.
        """
        targets, cost = change.fetch_targets, self.cost
        if targets is None or cost is None:
            return None
        link_ms, idle_ms = targets.row_budget * cost.ms_per_row, cost.idle_ms(rows_after)
        return FetchCost(
            rows=targets.row_budget,
            num_bytes=targets.row_budget * self._history.workload.row_bytes,
            link_ms=link_ms,
            idle_ms=idle_ms,
            steps=link_ms / idle_ms if idle_ms > 0 else None,
        )

    def course(self, change: Change, *, applied_step: int) -> tuple[float, ...]:
        """Rows fetched in each step from a change on, till after its trial, where it grows a
        buffer that takes long to fill; empty for others. Raises NotReadyError.

        applied_step: the first step under the change; the last window is still of before.
        """
        self._refresh()
        wanted, once = _parts(change, self._history.settings)
        if not self._is_growth(wanted, once):
            return ()
        growth, sampled, steps = self._growth_to(wanted)
        means = self._means
        assert means is not None
        after = min(max(applied_step - self._history.next_step, 0), WARM_BATCHES)
        shares = growth.course(
            sampled,
            settling_steps=steps,
            applied_after=after,
            filled_rows=self._filled_rows(change),
        )
        return tuple(self._remote_rows(means, float(each)) + means.seed_rows for each in shares)

    def opt(self, capacity_rows: int) -> Effect:
        """What the best buffer of that capacity would bring, knowing all batches (Belady)."""
        self._refresh()
        key = ("opt", capacity_rows)
        if key not in self._kept:
            share = self._counted_share(self._trace().opt(capacity_rows))
            self._kept[key] = self._effect(share, capacity_rows)
        self.on_answer(OptOf(opt_of_capacity_rows=capacity_rows), self._kept[key])
        return self._kept[key]

    def note_error(self, rows_error: float) -> None:
        """Learn by which share more rows were fetched than was estimated."""
        self.learned = self.learned.from_outcome(rows_error)
        self._kept.clear()

    # -- how ----------------------------------------------------------------------------

    def _trace(self) -> SampledTrace:
        trace = self._history.trace
        if trace is None or not self.is_ready:
            raise NotReadyError(
                f"{self._history.num_batches} batches were seen, too few for an estimate;"
                f" needed: {MIN_BATCHES}",
                remedy="keep things, and ask again after some windows",
            )
        return trace

    def _refresh(self) -> None:
        """Throw away what was said before the last window, and calibrate anew."""
        if self._version == self._history.version:
            return
        self._version = self._history.version
        self._kept.clear()
        self._replays.clear()
        self._growth = None
        self._cost = PullCost.fit(self._history.windows)
        self._means = Means.of(self._history.recent(RECENT_WINDOWS))
        settled = without_growth(self._history.settled, self._history.windows)
        if self.is_ready and settled:
            rows = self._rows(self._history.settings, Change())
            self.learned = self.learned.from_windows(rows, self._trace(), settled)

    def _is_growth(self, wanted: BufferSettings, once: Change) -> bool:
        """Whether slots must be filled first: by what the lookahead policy admits, not by rounds
        or targets."""
        grows = wanted.capacity_rows > self._history.settings.capacity_rows
        return grows and once.is_empty and self._history.workload.policy == "lookahead"

    def _filled_rows(self, change: Change) -> int:
        """Sampled rows that are in the buffer, or come while the link idles."""
        targets = change.fetch_targets
        if targets is None or not targets.while_idle:
            return 0
        rows = self._history.settings.capacity_rows + targets.row_budget
        return round(self._trace().rate * rows)

    def _growth_to(self, wanted: BufferSettings) -> tuple[Growth, BufferSettings, int]:
        """The growth, the settings with the capacity in sampled rows, and how long it settles."""
        trace, history = self._trace(), self._history
        present = Means.of(history.present)
        assert present is not None
        if self._growth is None:
            self._growth = Growth.of(
                trace,
                num_nodes=round(trace.rate * history.workload.num_remote),
                held_rows=held_rows(history.windows, steps=trace.steps),
                epoch_steps=history.workload.batches_per_epoch,
            )
        grown = wanted.capacity_rows - history.settings.capacity_rows
        steps = settling_steps(grown, rows_per_step=present.rows_fetched)
        capacity = round(trace.rate * wanted.capacity_rows)
        return self._growth, wanted.model_copy(update={"capacity_rows": capacity}), steps

    def _rows(self, settings: BufferSettings, once: Change) -> IntArray:
        key = (settings, once)
        if key not in self._replays:
            trace = self._trace()
            self._replays[key] = trace.rows(
                settings, self._history.workload, change=once, at=_counted(trace).start - 1
            )
        return self._replays[key]

    def _counted_share(self, rows: IntArray) -> Share:
        """Of the counted batches."""
        trace = self._trace()
        counted = _counted(trace)
        return Share.of(rows[counted], trace.widths[counted])

    def _effect(self, share: Share, capacity_rows: int) -> Effect:
        means, noise = self._means, self._history.noise
        assert means is not None
        mid = self._remote_rows(means, share.mid)
        half = SIGMAS_95 * math.hypot(
            means.remote_rows * share.error, noise.rows, self.error_fraction * mid
        )
        rows = Range(
            low=max(mid - half, 0.0) + means.seed_rows,
            mid=mid + means.seed_rows,
            high=mid + half + means.seed_rows,
        )
        cost = self._cost
        assert cost is not None
        return Effect(
            rows_fetched=rows,
            exposed_wait_ms=_wait(rows, cost, SIGMAS_95 * noise.wait_ms),
            buffer_bytes=capacity_rows * self._history.workload.row_bytes,
            times=cost.times(rows.mid),
        )

    def _remote_rows(self, means: Means, share: float) -> float:
        """Fetched per step, for a share of the sampled ones; without seeds."""
        return means.remote_rows * self.learned.share(share)


def _wait(rows: Range, cost: PullCost, noise_ms: float) -> Range:
    mid = cost.exposed_wait_ms(rows.mid)
    low, high = cost.exposed_wait_ms(rows.low), cost.worst_wait_ms(rows.high)
    return Range(low=max(min(low, mid) - noise_ms, 0.0), mid=mid, high=max(high, mid) + noise_ms)


def _parts(change: Change, settings: BufferSettings) -> tuple[BufferSettings, Change]:
    """The settings that a change of these leads to, and what of it is done once and felt: rows that
    come while the link idles only fill the buffer sooner."""
    targets = change.fetch_targets
    once = Change(
        fetch_targets=None if targets is None or targets.while_idle else targets,
        replace_now=change.replace_now,
    )
    return change.over(settings), once


def _counted(trace: SampledTrace) -> slice:
    count = min(MAX_COUNTED_BATCHES, trace.num_batches // 2)
    return slice(trace.num_batches - count, trace.num_batches)
