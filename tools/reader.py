"""Answers of the read tools, from history, limits and what-if."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel

from rudder.tools.constants import MIN_WINDOWS, PRESENT_WINDOWS
from rudder.tools.controls import EstimateEffect
from rudder.tools.errors import NotReadyError, OutOfBoundsError
from rudder.tools.estimate import access_profile
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import Means
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.readings import (
    AccessReading,
    BoundReading,
    BufferReading,
    EstimateReading,
    MetricsReading,
    OwnerReading,
    PeerReading,
    RecallReading,
    WindowReading,
    WorkloadReading,
)
from rudder.training.metrics import Window
from rudder.training.settings import Change, FetchTargets

Recall = Callable[[int], Sequence[BaseModel]]


class Reader:
    """Read access to one trainer's run; every method raises NotReadyError where it must wait."""

    def __init__(self, history: History, limits: Limits, whatif: WhatIf, recall: Recall) -> None:
        self._history, self._limits, self._whatif = history, limits, whatif
        self._recall = recall

    def metrics(self, num_windows: int) -> MetricsReading:
        """The last windows."""
        history = self._history
        windows = history.recent(num_windows)
        means = Means.of(windows)
        if means is None:
            raise _no_window()
        noise = history.noise
        return MetricsReading(
            next_step=history.next_step,
            steps_left=history.steps_left,
            compute_ms=means.compute_ms,
            sample_ms=means.sample_ms,
            pull_ms=means.pull_ms,
            assemble_ms=means.assemble_ms,
            noise_rows=noise.rows,
            noise_wait_ms=noise.wait_ms,
            is_noise_measured=noise.is_measured,
            rows_trend=history.trend("rows"),
            wait_trend=history.trend("wait"),
            spare_ms=self._whatif.spare_ms,
            windows=tuple(_window(window) for window in windows if window.num_steps),
            peers=_peers(windows[-1]),
        )

    def buffer_state(self) -> BufferReading:
        """Settings and filling."""
        latest = self._history.latest
        if latest is None:
            raise _no_window()
        return BufferReading(
            settings=latest.settings,
            buffered_rows=latest.buffered_rows,
            buffer_bytes=latest.settings.capacity_rows * self._history.workload.row_bytes,
            max_capacity_rows=self._limits.max_capacity_rows,
            hit_fraction=latest.rows.hit_fraction,
            has_settled=len(self._history.settled) >= MIN_WINDOWS,
            last_change_step=self._history.last_change_step,
        )

    def workload(self) -> WorkloadReading:
        """What the run is."""
        work, settings = self._history.workload, self._history.settings
        room = self._limits.max_capacity_rows - settings.capacity_rows
        shared = set(WorkloadReading.model_fields) & set(type(work).model_fields)
        return WorkloadReading(
            **{name: getattr(work, name) for name in shared},
            steps_left=self._history.steps_left,
            room_bytes=max(room, 0) * work.row_bytes,
            bounds=self._bounds(),
        )

    def access_profile(self) -> AccessReading:
        """How remote nodes are used."""
        trace, latest = self._history.trace, self._history.latest
        if trace is None or latest is None:
            raise NotReadyError(
                "no accesses were sampled so far", remedy="ask again after the next window"
            )
        cost = self._whatif.cost
        return AccessReading(
            num_batches=trace.num_batches,
            sampled_fraction=trace.rate,
            working_set_rows=self._history.working_set_rows or 0,
            once_only_fraction=access_profile.once_only_fraction(trace),
            hot_fraction=access_profile.hot_fraction(trace),
            reuse=access_profile.reuse(trace),
            drift=access_profile.drift(self._history),
            owners=_owners(self._history.recent(PRESENT_WINDOWS)),
            pull_fixed_ms=None if cost is None else cost.fixed_ms,
            pull_ms_per_row=None if cost is None else cost.ms_per_row,
        )

    def estimate(self, change: Change) -> EstimateReading:
        """What a change would bring; raises OutOfBoundsError where the limits refuse it."""
        settings = self._history.settings
        if (problem := self._limits.problem(change, settings=settings)) is not None:
            raise OutOfBoundsError(problem, remedy="choose values within the bounds")
        capacity = change.over(settings).capacity_rows
        return EstimateReading(
            changed=self._whatif.effect(change),
            present=self._whatif.present(),
            opt=self._whatif.opt(capacity),
            is_calibrated=self._whatif.is_calibrated,
            error_fraction=self._whatif.error_fraction,
        )

    def change_of(self, wanted: EstimateEffect) -> Change:
        """The change that these settings are, from those in force."""
        now = self._history.settings
        targets = None
        if wanted.fetch_row_budget:
            targets = FetchTargets(source="observed", row_budget=wanted.fetch_row_budget)
        names = ("capacity_rows", "eviction_threshold", "lookahead_batches", "replacement_interval")
        given = {name: getattr(wanted, name) for name in names}
        if now.replacement_interval is None and not wanted.replacement_interval:
            given["replacement_interval"] = None
        new = {name: value for name, value in given.items() if value != getattr(now, name)}
        if "eviction_threshold" in new:
            new["eviction_threshold"] = float(new["eviction_threshold"])
        return Change(fetch_targets=targets, replace_now=wanted.replace_now, **new)

    def episodes(self, num_episodes: int) -> RecallReading:
        """Past episodes like this one."""
        found = self._recall(num_episodes)[:num_episodes]
        return RecallReading(episodes=tuple(each.model_dump(mode="json") for each in found))

    def _bounds(self) -> tuple[BoundReading, ...]:
        work = self._history.workload
        numbers = [
            BoundReading(
                knob=bound.knob,
                allowed=work.refusal(bound.knob) is None,
                low=bound.low,
                high=bound.high,
            )
            for bound in self._limits.bounds
        ]
        others = [
            BoundReading(knob="fetch_targets", allowed=work.refusal("fetch_targets") is None,
                         low=None, high=None),
            BoundReading(knob="replace_now", allowed=work.refusal("replace_now") is None,
                         low=None, high=None),
        ]  # fmt: skip
        return (*numbers, *others)


def _no_window() -> NotReadyError:
    return NotReadyError("no window was measured so far", remedy="ask again after the next window")


def _window(window: Window) -> WindowReading:
    means = Means.of([window])
    assert means is not None
    return WindowReading(
        first_step=window.first_step,
        num_steps=window.num_steps,
        remote_rows=means.remote_rows,
        rows_fetched=means.rows_fetched,
        hit_fraction=means.hit_fraction,
        exposed_wait_ms=means.exposed_wait_ms,
        step_ms=means.step_ms,
        capacity_rows=window.settings.capacity_rows,
        lookahead_batches=window.settings.lookahead_batches,
        buffered_rows=window.buffered_rows,
        waiting_batches=window.waiting_batches,
    )


def _peers(window: Window) -> tuple[PeerReading, ...]:
    return tuple(
        PeerReading(
            rank=peer.rank,
            step_ms=1e3 * peer.step_seconds,
            exposed_wait_ms=1e3 * peer.exposed_wait_seconds,
        )
        for peer in window.peers
    )


def _owners(windows: Sequence[Window]) -> tuple[OwnerReading, ...]:
    steps = sum(window.num_steps for window in windows)
    traffic = [owner for window in windows for owner in window.owners]
    found = []
    for part in sorted({owner.part for owner in traffic}):
        mine = [owner for owner in traffic if owner.part == part]
        pulls = sum(owner.pulls for owner in mine)
        seconds = sum(owner.seconds for owner in mine)
        found.append(
            OwnerReading(
                part=part,
                rows=sum(owner.rows for owner in mine) / steps,
                pulls=pulls / steps,
                ms_per_pull=1e3 * seconds / max(pulls, 1),
            )
        )
    return tuple(found)
