"""Changes made before anything can be estimated, and the trial of settings of an earlier run.

Known work: an earlier run on the same partition, batches and policy came to settings that were
confirmed. They are good on a link like that run's. Before the first window nobody knows the link
of this run, and memories of before version 0.2 do not tell theirs; then the largest buffer of
those that served counts, and only where it is larger than the present one. No start shrinks a
buffer: memory is a budget. Until the first batch the link idles, so a start also fetches the rows
that batches are likely to need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rudder.memory.journal import Recalled
from rudder.memory.past.circumstances import signature
from rudder.memory.records import Episode, Observation, Outcome
from rudder.tools import constants
from rudder.tools.calls import Effect, Range
from rudder.tools.estimate.means import value_of
from rudder.training.metrics import Window
from rudder.training.settings import (
    DEFAULT_LOOKAHEAD_BATCHES,
    Applied,
    BufferSettings,
    Change,
    FetchTargets,
)
from rudder.training.workload import PolicyName, Workload

TAKES_ANY_ROW: tuple[PolicyName, ...] = ("lookahead", "lfu")
"""Policies that have use for rows which were fetched while the link idled."""


@dataclass(frozen=True)
class WarmStart:
    """Settings that are likely to serve better, and rows to fetch while the link idles; effect: as
    an earlier run measured it, None where nobody knows."""

    settings: BufferSettings
    effect: Effect | None
    reason: str
    targets: FetchTargets | None = None

    @classmethod
    def of(
        cls, recalled: Sequence[Recalled], observation: Observation, workload: Workload
    ) -> WarmStart | None:
        """None where there is no evidence, or nothing much to be gained.

        Before the first window only an earlier run can tell, and is believed.
        """
        known, is_begun = _best_known(recalled, observation, workload), observation.step_ms > 0
        if not is_begun:
            return _before_all(known, observation, workload)
        if known is None:
            return _near_defaults(observation, workload)
        known = known.not_below(observation.settings)
        gain_ms = observation.exposed_wait_ms - _wait_ms(known)
        if gain_ms < constants.WORTH_WAIT_SHARE * observation.step_ms:
            return None
        return None if known.settings == observation.settings else known

    def not_below(self, settings: BufferSettings) -> WarmStart:
        """The same with a buffer that is no smaller than that of these settings."""
        rows = max(self.settings.capacity_rows, settings.capacity_rows)
        return replace(self, settings=self.settings.model_copy(update={"capacity_rows": rows}))

    def change(self, settings: BufferSettings, wanted: BufferSettings) -> Change:
        """From these settings to those wanted, with the rows to fetch that such a buffer holds."""
        change = Change.between(settings, wanted)
        if self.targets is None or not wanted.capacity_rows:
            return change
        budget = min(self.targets.row_budget, wanted.capacity_rows)
        targets = self.targets.model_copy(update={"row_budget": budget})
        return change.model_copy(update={"fetch_targets": targets})

    def leads_to(self, change: Change, *, settings: BufferSettings) -> bool:
        """Whether a change of these settings goes there, by its capacity at least in part, and
        does nothing else but have rows come while the link idles."""
        wanted = change.over(settings)
        low, high = sorted((settings.capacity_rows, self.settings.capacity_rows))
        same = {"capacity_rows": wanted.capacity_rows}
        return (
            low <= wanted.capacity_rows <= high
            and wanted == self.settings.model_copy(update=same)
            and _without_idle(change) == Change.between(settings, wanted)
        )


class WarmTrial:
    """The trial of a warm start before the first window: there is nothing to compare with but what
    the earlier run measured, and nothing to go back to.

    It ends as soon as the trainer waits no longer than it did then, or is seen not to get there.
    """

    undo = Change()

    def __init__(self, *, applied: Applied, expected: Effect | None) -> None:
        self._applied, self._expected = applied, expected
        self._num_windows = 0

    def feed(self, window: Window) -> Outcome | None:
        """Take in the next window; the outcome once it is known."""
        if window.first_step < self._applied.step or not window.num_steps:
            return None
        if window.settings != self._applied.settings:
            return Outcome(result="abandoned", reason="the settings were changed by someone else")
        self._num_windows += 1
        if self._num_windows < constants.MIN_WINDOWS:
            return None
        if self._is_as_then(window):
            return Outcome(
                result="confirmed",
                rows_after=value_of(window, "rows"),
                wait_ms_after=value_of(window, "wait"),
                reason="the trainer waits no longer than in the earlier run",
            )
        if self._num_windows < constants.PRESENT_WINDOWS:
            return None
        reason = "the trainer waits longer than in the earlier run"
        return Outcome(result="abandoned", reason=reason)

    def _is_as_then(self, window: Window) -> bool:
        more_ms = constants.WAITING_SHARE * 1000 * window.trained_seconds / window.num_steps
        then_ms = self._expected.exposed_wait_ms.high if self._expected else 0.0
        return value_of(window, "wait") <= then_ms + more_ms


def _without_idle(change: Change) -> Change:
    targets = change.fetch_targets
    if targets is None or not targets.while_idle:
        return change
    return change.model_copy(update={"fetch_targets": None})


def _best_known(
    recalled: Sequence[Recalled], observation: Observation, workload: Workload
) -> WarmStart | None:
    """What earlier runs on the same work came to: on a like link the one that waited least."""
    known = [
        (found, each.episode.observation.row_ms)
        for each in recalled
        if each.workload.run_key != workload.run_key
        and signature(each.workload) == signature(workload)
        and (found := _came_to(each.episode, workload)) is not None
    ]
    alike = [found for found, row_ms in known if _is_like_link(row_ms, observation.row_ms)]
    if alike:
        return min(alike, key=_wait_ms)
    unknown = [found for found, row_ms in known if None in (row_ms, observation.row_ms)]
    best = max(unknown, key=lambda each: each.settings.capacity_rows, default=None)
    present = observation.settings.capacity_rows
    return best if best is not None and best.settings.capacity_rows >= present else None


def _before_all(
    known: WarmStart | None, observation: Observation, workload: Workload
) -> WarmStart | None:
    """The settings that an earlier run came to, and the rows that batches are likely to need."""
    start = WarmStart(observation.settings, None, "the link idles before the first batch")
    if known is not None:
        start = known.not_below(observation.settings)
    start = replace(start, targets=_first_rows(observation, workload))
    wanted = start.change(observation.settings, start.settings)
    return None if wanted.is_empty else start


def _first_rows(observation: Observation, workload: Workload) -> FetchTargets | None:
    """The hot set of an earlier run, else the nodes that fan-outs and graph make likely; None where
    neither is known, or the policy chooses its rows itself."""
    knows_nothing = not (observation.hot_rows or workload.fanouts)
    if knows_nothing or workload.policy not in TAKES_ANY_ROW:
        return None
    return FetchTargets(
        source="hot_set" if observation.hot_rows else "vip",
        row_budget=max(observation.hot_rows or workload.num_remote, 1),
        while_idle=True,
    )


def _is_like_link(one_ms: float | None, other_ms: float | None) -> bool:
    """one_ms, other_ms: what a row takes over the network; None: not known."""
    if one_ms is None or other_ms is None:
        return False
    low, high = sorted((one_ms, other_ms))
    return high <= constants.LIKE_LINK_FACTOR * low


def _came_to(episode: Episode, workload: Workload) -> WarmStart | None:
    outcome, applied = episode.outcome, episode.applied
    if outcome is None or applied is None or outcome.result != "confirmed":
        return None
    if outcome.rows_after is None or outcome.wait_ms_after is None:
        return None
    effect = Effect(
        rows_fetched=_around(outcome.rows_after, noise=outcome.noise_rows),
        exposed_wait_ms=_around(outcome.wait_ms_after, noise=outcome.noise_wait_ms),
        buffer_bytes=applied.settings.capacity_rows * workload.row_bytes,
    )
    reason = "an earlier run on the same work came to these settings"
    return WarmStart(applied.settings, effect, reason)


def _around(value: float, *, noise: float | None) -> Range:
    half = constants.SIGMAS_95 * (noise or 0.0)
    return Range(low=max(value - half, 0.0), mid=value, high=value + half)


def _wait_ms(known: WarmStart) -> float:
    return known.effect.exposed_wait_ms.mid if known.effect else 0.0


def _near_defaults(observation: Observation, workload: Workload) -> WarmStart | None:
    """The defaults of the policy `lookahead`, for a trainer that waits and is far away from them:
    all the rows that there is memory for."""
    present, share = observation.settings, observation.exposed_fraction
    rows = min(workload.num_remote, workload.max_buffer_rows)
    is_far = (
        present.capacity_rows <= constants.FEW_ROWS_SHARE * rows
        or present.lookahead_batches < DEFAULT_LOOKAHEAD_BATCHES / constants.FAR_FACTOR
    )
    if workload.policy != "lookahead" or not is_far or share <= constants.WORTH_WAIT_SHARE:
        return None
    settings = BufferSettings(
        capacity_rows=max(rows, present.capacity_rows),
        lookahead_batches=max(constants.FIRST_LOOKAHEAD_BATCHES, present.lookahead_batches),
        replacement_interval=present.replacement_interval,
    )
    return WarmStart(settings, None, "the trainer waits, far from the default settings")
