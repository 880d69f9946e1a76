"""Per-step means over windows, the noise between windows, and where things are going."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rudder.tools.constants import (
    CHANGED_ROWS_SHARE,
    CHANGED_WAIT_SHARE,
    JUMP_SHARE,
    MIN_WAIT_NOISE_MS,
    MIN_WINDOWS,
    PRESENT_WINDOWS,
    RECENT_WINDOWS,
    SIGMAS_95,
    SLOWED_SHARE,
    WAITING_SHARE,
    WINDOW_STEPS,
)
from rudder.training.metrics import Window

Trend = Literal["better", "steady", "worse", "unknown"]
Measure = Literal["rows", "wait", "step"]
Floats = NDArray[np.float64]
_MAD_TO_SIGMA = 1.4826
"""A normal distribution's sigma over its median absolute deviation."""
_STANDS_OUT = 3.5
"""Sigmas: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993."""
_MAX_OUTLIERS = 1 / 4
"""Of the differences, two for each window that a busy host held up: where more stand out, that is
how windows are."""
_MANY = 16
"""Differences from which on their median tells which of them stand out."""
_MIN_FREE = 1.5
"""Degrees of freedom: with one, Student's t is 12.7, and a prior is better; three windows: 1.6."""


@dataclass(frozen=True)
class Means:
    """Per-step means of some windows. Milliseconds; step_ms None where no window was timed.

    rows_fetched: for batches, not while idle; seed_rows: those of them that no buffer saves;
    exposed_wait_ms: Window.stalled_seconds, all that the trainer stood still for rows; blocked_ms:
    it slept within the step for something else; core_wait_ms, pull_work_ms: as in Seconds.
    """

    num_steps: int
    remote_rows: float
    rows_fetched: float
    seed_rows: float
    hit_fraction: float | None
    exposed_wait_ms: float
    compute_ms: float
    sample_ms: float
    pull_ms: float
    assemble_ms: float
    blocked_ms: float
    core_wait_ms: float
    pull_work_ms: float
    step_ms: float | None

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Means | None:
        """None where there is no step."""
        steps = sum(window.num_steps for window in windows)
        if not steps:
            return None
        remote_rows = sum(window.rows.remote_rows for window in windows)
        hits = sum(window.rows.hits for window in windows)
        per_step_ms = 1e3 / steps
        return cls(
            num_steps=steps,
            remote_rows=remote_rows / steps,
            rows_fetched=sum(window.rows.rows_fetched.of_batches for window in windows) / steps,
            seed_rows=sum(window.rows.rows_fetched.seed for window in windows) / steps,
            hit_fraction=hits / remote_rows if remote_rows else None,
            exposed_wait_ms=sum(window.stalled_seconds for window in windows) * per_step_ms,
            compute_ms=sum(window.seconds.compute for window in windows) * per_step_ms,
            sample_ms=sum(window.seconds.sample for window in windows) * per_step_ms,
            pull_ms=sum(window.seconds.pull for window in windows) * per_step_ms,
            assemble_ms=sum(window.seconds.assemble for window in windows) * per_step_ms,
            blocked_ms=sum(_blocked_seconds(window) for window in windows) * per_step_ms,
            core_wait_ms=sum(window.seconds.core_wait for window in windows) * per_step_ms,
            pull_work_ms=sum(window.seconds.pull_work for window in windows) * per_step_ms,
            step_ms=_step_ms(windows),
        )


def _blocked_seconds(window: Window) -> float:
    seconds = window.seconds
    return seconds.blocked - (window.stalled_seconds - seconds.exposed_wait)


@dataclass(frozen=True)
class Noise:
    """Spread (one sigma) of a window's per-step mean that no setting explains.

    The fewer windows it comes from, the wider (Student's t). is_measured: whether it comes from
    enough windows, or is a prior: 5 % of the rows and 2 % of the step time, for waits and steps.
    """

    rows: float
    wait_ms: float
    step_ms: float
    is_measured: bool

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Noise:
        """Pooled over runs of windows under equal settings."""
        groups = [list(group) for _, group in groupby(windows, key=lambda each: each.settings)]
        rows, wait_ms, step_ms = (
            _pooled([_differences(group, _values_of(group, measure)) for group in groups])
            for measure in get_args(Measure)
        )
        if rows is None or wait_ms is None or step_ms is None:
            means = Means.of(windows)
            if means is None:
                return cls(0.0, MIN_WAIT_NOISE_MS, MIN_WAIT_NOISE_MS, is_measured=False)
            step_ms = means.step_ms or means.compute_ms + means.exposed_wait_ms
            wait_ms = max(CHANGED_WAIT_SHARE * step_ms, MIN_WAIT_NOISE_MS)
            return cls(CHANGED_ROWS_SHARE * means.rows_fetched, wait_ms, wait_ms, is_measured=False)
        least = MIN_WAIT_NOISE_MS
        return cls(rows, max(wait_ms, least), max(step_ms, least), is_measured=True)


def sigma_of_few(variance: float, *, num_free: float) -> float:
    """A standard deviation that allows for how few values it comes from.

    num_free: degrees of freedom. As wide as lets +-1.96 of it, over the root of the number of
    values, hold the true mean in 95 % of all draws, as for a normal distribution of known spread.
    """
    from scipy.special import stdtrit  # takes a fifth of a second, and few commands need it

    return float(stdtrit(num_free, 0.975)) / SIGMAS_95 * math.sqrt(variance)


def _differences(windows: Sequence[Window], values: Sequence[float]) -> Floats:
    """Between the values of neighbours, as large as windows of WINDOW_STEPS would have them: the
    means of long windows differ less."""
    steps = np.array([max(window.num_steps, 1) for window in windows])
    spread = np.sqrt(2 / WINDOW_STEPS / (1 / steps[1:] + 1 / steps[:-1]))
    found: Floats = np.diff(values) * spread
    return found


def _pooled(groups: Sequence[Floats]) -> float | None:
    """One sigma of values, from the differences between neighbours; None where they are too few.

    A change of phase is one large difference among many, so it is no noise. Mean square successive
    difference, von Neumann et al., Annals of Mathematical Statistics 12, 1941: of n values it is
    worth 2 (n - 1)^2 / (3 n - 4) degrees of freedom.
    """
    told = [group for group in groups if len(group)]
    num_free = sum(2 * len(each) ** 2 / (3 * len(each) - 1) for each in told)
    if num_free < _MIN_FREE:
        return None
    found = np.concatenate(told)
    far = np.abs(found) > _STANDS_OUT * _MAD_TO_SIGMA * np.median(np.abs(found))
    if len(found) >= _MANY and np.mean(far) <= _MAX_OUTLIERS:
        found = found[~far]
    return sigma_of_few(float(np.mean(found**2)) / 2, num_free=num_free)


def trend(windows: Sequence[Window], *, measure: Measure, noise: float) -> Trend:
    """Whether the last windows, all under the same settings, differ from those before them.

    noise: one sigma of a window, where these are too few to tell; `better` is less.
    """
    values = _values_of(windows, measure)
    before, last = values[:-MIN_WINDOWS], values[-MIN_WINDOWS:]
    if not before:
        return "unknown"
    changes = _differences(windows, values)
    sigma = _pooled([changes[: len(before) - 1], changes[len(before) :]])
    if sigma is None:
        sigma = noise
    elif measure != "rows":
        sigma = max(sigma, MIN_WAIT_NOISE_MS)
    change = float(np.mean(last) - np.median(before))
    if abs(change) <= SIGMAS_95 * sigma * (1 / len(last) + 1 / len(before)) ** 0.5:
        return "steady"
    return "worse" if change > 0 else "better"


def value_of(window: Window, measure: Measure) -> float:
    """A window's rows fetched, or its exposed wait or all its time in ms, per step."""
    if measure == "step":
        return _trained_ms(window)
    steps = max(window.num_steps, 1)
    if measure == "rows":
        return window.rows.rows_fetched.of_batches / steps
    return 1e3 * window.stalled_seconds / steps


def _values_of(windows: Sequence[Window], measure: Measure) -> list[float]:
    """That of each window."""
    return [value_of(window, measure) for window in windows]


def _step_ms(windows: Sequence[Window]) -> float | None:
    timed = [(each.wall_seconds, each.num_steps) for each in windows if each.wall_seconds]
    steps = sum(count for _, count in timed)
    return 1e3 * sum(seconds for seconds, _ in timed) / steps if steps else None


def of_now(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The last windows since the wait jumped, up or down; all of them where it did not."""
    if not windows:
        return ()
    waits = _values_of(windows, "wait")
    most = JUMP_SHARE * _trained_ms(windows[-1])
    differs = [abs(wait - waits[-1]) > most for wait in reversed(waits)]
    alike = differs.index(True) if True in differs else len(waits)
    before, since = waits[-alike - RECENT_WINDOWS : -alike], waits[-alike:]
    is_jump = bool(before) and (max(before) < min(since) or max(since) < min(before))
    return tuple(windows[-alike:] if is_jump and alike >= MIN_WINDOWS else windows)


def has_slowed(windows: Sequence[Window]) -> bool:
    """Whether the last window waited far longer than those before that fetched as many rows.

    windows: all of the run, the first of which waits for a start.
    """
    if len(windows) <= MIN_WINDOWS:
        return False
    last = windows[-1]
    rows, wait_ms = value_of(last, "rows"), value_of(last, "wait")
    alike = (
        value_of(window, "wait")
        for window in reversed(windows[1:-1])
        if value_of(window, "rows") >= (1 - CHANGED_ROWS_SHARE) * rows
    )
    before = list(islice(alike, PRESENT_WINDOWS))
    if not before:
        return False
    return wait_ms - statistics.median(before) > SLOWED_SHARE * _trained_ms(last)


def waits(window: Window) -> bool:
    """Whether the trainer waits for rows, so that there is something to win."""
    return window.stalled_seconds > WAITING_SHARE * window.trained_seconds


def _trained_ms(window: Window) -> float:
    return 1000 * window.trained_seconds / max(window.num_steps, 1)
