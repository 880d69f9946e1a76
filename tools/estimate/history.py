"""What one trainer measured so far, as much of it as decisions need."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import numpy as np

from rudder.tools.constants import (
    FILLED_SHARE,
    FULL_SHARE,
    MAX_BATCHES,
    MAX_NODES,
    MAX_WINDOWS,
    NOISE_WINDOWS,
    PRESENT_WINDOWS,
)
from rudder.tools.estimate.means import Measure, Noise, Trend, of_now, trend
from rudder.tools.estimate.past_uses import PastUses
from rudder.tools.estimate.sampled import SampledBatch, SampledTrace
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import AccessSlice, Window
from rudder.training.settings import BufferSettings
from rudder.training.workload import Workload


class History:
    """The last windows of one trainer, and the sampled accesses of the last batches.

    `version` grows with every window, so that answers may be kept until it does; those that
    decisions ask for more than once are kept here.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.version = 0
        self._windows: deque[Window] = deque(maxlen=MAX_WINDOWS)
        self._of_present_settings: deque[Window] = deque(maxlen=MAX_WINDOWS)
        self._batches: deque[SampledBatch] = deque()
        self._num_nodes = 0
        self._rate: float | None = None
        self._past = PastUses()
        self._trace: SampledTrace | None = None
        self._noise: Noise | None = None

    def add(self, window: Window) -> None:
        """Take in the next window; one that is older than the latest is left out."""
        if self._windows and window.first_step < self._windows[-1].first_step:
            return
        if window.settings != self.settings:
            self._of_present_settings.clear()
        self._windows.append(window)
        self._of_present_settings.append(window)
        self.version += 1
        self._trace = self._noise = None
        if window.accesses is not None:
            self._add_accesses(window, window.accesses)

    def resume(self, *, rate: float, past: PastUses) -> None:
        """Before the first window: accesses sampled at this rate came before, and are kept no
        more."""
        self._rate, self._past = rate, past

    @property
    def latest(self) -> Window | None:
        """The last window."""
        return self._windows[-1] if self._windows else None

    @property
    def windows(self) -> tuple[Window, ...]:
        """All that are kept, oldest first."""
        return tuple(self._windows)

    @property
    def settings(self) -> BufferSettings:
        """Those in force in the last window, or those that the run began with."""
        return self._windows[-1].settings if self._windows else self.workload.defaults

    @property
    def next_step(self) -> int:
        """The first step after the last window."""
        last = self.latest
        return 0 if last is None else last.first_step + last.num_steps

    @property
    def last_change_step(self) -> int | None:
        """First step of the first window under the settings in force; None: nothing changed."""
        windows = self._of_present_settings
        return windows[0].first_step if 0 < len(windows) < len(self._windows) else None

    @property
    def steps_left(self) -> int | None:
        """Steps to the end of the run, where it is known."""
        total = self.workload.num_steps
        return None if total is None else max(total - self.next_step, 0)

    def recent(self, count: int) -> tuple[Window, ...]:
        """The last so many windows."""
        return tuple(self._windows)[-count:] if count > 0 else ()

    def since(self, step: int) -> tuple[Window, ...]:
        """Windows from a step on whose settings are those in force now."""
        now = self.settings
        return tuple(w for w in self._windows if w.first_step >= step and w.settings == now)

    @property
    def settled(self) -> tuple[Window, ...]:
        """The last windows, as far as nothing but noise sets them apart.

        Under the settings in force, but for the first window under them, and with a buffer that
        was full, or filled no more, when the window began.
        """
        windows = self._of_present_settings
        full = [
            later
            for earlier, later in itertools.pairwise(windows)
            if _has_filled(earlier, later, self.workload)
        ]
        return tuple(full)

    @property
    def present(self) -> tuple[Window, ...]:
        """Those that tell how things are: the last settled ones, as far as they are of now; while
        there are none, the last one."""
        return of_now(self.settled)[-PRESENT_WINDOWS:] or self.recent(1)

    @property
    def noise(self) -> Noise:
        """Spread between recent windows under equal settings."""
        if self._noise is None:
            windows = self.recent(NOISE_WINDOWS)
            self._noise = Noise.of(windows[1:] if len(windows) > 1 else windows)
        return self._noise

    def trend(self, measure: Measure = "wait") -> Trend:
        """Where the windows under the settings in force are going."""
        noise = self.noise
        sigma = noise.rows if measure == "rows" else noise.wait_ms
        return trend(tuple(self._of_present_settings)[1:], measure=measure, noise=sigma)

    # -- sampled accesses ---------------------------------------------------------------

    @property
    def num_batches(self) -> int:
        """Batches whose sampled accesses are kept."""
        return len(self._batches)

    @property
    def trace(self) -> SampledTrace | None:
        """The kept batches for replay; None where nothing was sampled."""
        if self._rate is None or not self._num_nodes:
            return None
        if self._trace is None:
            self._trace = SampledTrace.of(self.batches, rate=self._rate, past=self._past)
        return self._trace

    @property
    def batches(self) -> tuple[SampledBatch, ...]:
        """The sampled nodes of the kept batches, oldest first."""
        return tuple(self._batches)

    @property
    def rate(self) -> float | None:
        """Share of the remote nodes that are sampled."""
        return self._rate

    @property
    def working_set_rows(self) -> int | None:
        """Distinct remote nodes of the kept batches, as the sample tells; None without one."""
        trace = self.trace
        return None if trace is None else round(trace.num_nodes / trace.rate)

    @property
    def drift(self) -> float | None:
        """Share of the last window's sampled nodes that the four windows before it did not use,
        less the share that is usual (that of the window before), 0 to 1; None while windows are
        too few."""
        latest = self.latest
        steps = 1 if latest is None else max(latest.num_steps, 1)
        span = (PRESENT_WINDOWS + 2) * steps
        if latest is None or len(self._batches) < span:
            return None
        nodes = [batch.nodes for batch in self.batches[-span:]]
        usual = _new_share(nodes[-2 * steps : -steps], before=nodes[: -2 * steps])
        now = _new_share(nodes[-steps:], before=nodes[steps:-steps])
        return float(np.clip(now - usual, 0.0, 1.0))

    def _add_accesses(self, window: Window, accesses: AccessSlice) -> None:
        if accesses.rate != self._rate:
            self._batches.clear()
            self._num_nodes, self._past, self._rate = 0, PastUses(), accesses.rate
        for number, nodes in enumerate(accesses.batches()):
            self._add_batch(window.first_step + number, nodes.astype(np.int64))

    def _add_batch(self, step: int, nodes: IntArray) -> None:
        self._batches.append(SampledBatch(step, nodes))
        self._num_nodes += len(nodes)
        while len(self._batches) > MAX_BATCHES or self._num_nodes > MAX_NODES:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._batches.popleft().nodes
        self._past.add(oldest)
        self._num_nodes -= len(oldest)


def _new_share(batches: Sequence[IntArray], *, before: Sequence[IntArray]) -> float:
    """Share of the nodes of some batches that are not in those before."""
    nodes = np.concatenate(batches)
    return float(np.mean(~np.isin(nodes, np.concatenate(before)))) if len(nodes) else 0.0


def _has_filled(earlier: Window, later: Window, workload: Workload) -> bool:
    capacity = min(later.settings.capacity_rows, workload.num_remote)
    if earlier.buffered_rows >= FULL_SHARE * capacity:
        return True
    return later.buffered_rows - earlier.buffered_rows <= FILLED_SHARE * capacity
