"""The answers of the read tools: numbers and fixed words only, so all of it may go to a model.

All rows and times are means per step of one trainer; None: not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import Field

from rudder.tools.calls import Binding, Effect, FetchCost, StepTimes
from rudder.tools.estimate.means import Means, Trend
from rudder.tools.estimate.pullcost import PullCost
from rudder.tools.estimate.sampled import SampledTrace
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import StepTiming, Window
from rudder.training.settings import BufferSettings, FrozenExact
from rudder.training.workload import Knob

_DISTANCES = (1, 4, 16, 64)
_HOT_SHARE = 0.1


class Reading(FrozenExact):
    """An answer, or a part of one."""

    @classmethod
    def of(cls, *sources: object, **own: object) -> Self:
        """Each field is given by name, or taken from the first source that has one of its name."""
        found = {
            name: getattr(source, name)
            for source in reversed(sources)
            for name in cls.model_fields
            if name not in own and hasattr(source, name)
        }
        return cls.model_validate({**found, **own})


class WindowReading(Reading):
    """One window, per step."""

    first_step: int
    num_steps: int
    remote_rows: float
    rows_fetched: float
    hit_fraction: float | None
    exposed_wait_ms: float
    step_ms: float | None
    capacity_rows: int
    lookahead_batches: int
    buffered_rows: int
    waiting_batches: int

    @classmethod
    def each(cls, windows: Sequence[Window]) -> tuple[Self, ...]:
        """Of all windows that have steps."""
        means = [(window, Means.of([window])) for window in windows]
        return tuple(cls.of(each, window, window.settings) for window, each in means if each)


class PeerReading(Reading):
    """Another trainer's last window, per step; of num_ranks trainers the one that waits longest."""

    rank: int
    num_ranks: int
    step_ms: float
    exposed_wait_ms: float

    @classmethod
    def each(cls, peers: Sequence[StepTiming]) -> tuple[Self, ...]:
        """Of all trainers."""
        return tuple(
            cls.of(
                peer,
                step_ms=1e3 * peer.step_seconds,
                exposed_wait_ms=1e3 * peer.exposed_wait_seconds,
            )
            for peer in peers
        )


class PresentReading(Reading):
    """How things are: per step of the last windows whose buffer had settled, as far as they are of
    now; of the last window while there are none. binds: what makes a step as long as it is."""

    remote_rows: float
    rows_fetched: float
    hit_fraction: float | None
    exposed_wait_ms: float
    step_ms: float
    sample_ms: float
    pull_ms: float
    assemble_ms: float
    times: StepTimes | None
    binds: Binding | None

    @classmethod
    def of_means(cls, means: Means, cost: PullCost | None) -> Self:
        """cost: tells the times; None where it is not known."""
        times = None if cost is None else cost.times(means.rows_fetched)
        step_ms = means.step_ms or means.compute_ms + means.exposed_wait_ms
        return cls.of(
            means, step_ms=step_ms, times=times, binds=None if times is None else times.binds
        )


class MetricsReading(Reading):
    """read_metrics: the last windows one by one, oldest first, and what they say together.

    noise: one sigma of a window that no setting explains; spare_ms: by how much loading is ahead
    of training, negative: behind.
    """

    next_step: int
    steps_left: int | None
    compute_ms: float
    sample_ms: float
    pull_ms: float
    assemble_ms: float
    noise_rows: float
    noise_wait_ms: float
    is_noise_measured: bool
    rows_trend: Trend
    wait_trend: Trend
    spare_ms: float | None
    present: PresentReading
    windows: tuple[WindowReading, ...]
    peers: tuple[PeerReading, ...]


class BufferReading(Reading):
    """read_buffer_state: the settings in force and how full the buffer is."""

    settings: BufferSettings
    buffered_rows: int
    buffer_bytes: int
    max_capacity_rows: int
    hit_fraction: float | None
    has_settled: bool = Field(description="under these settings and full, for two windows or more")
    last_change_step: int | None


class BoundReading(Reading):
    """The values that a knob may take, ends included; allowed false: not with this policy."""

    knob: Knob
    allowed: bool
    low: float | None = None
    high: float | None = None


class WorkloadReading(Reading):
    """read_workload: graph, partition, sampler, batches, time left and memory room."""

    policy: str
    world_size: int
    trainers_on_host: int
    num_parts: int
    num_inner: int
    num_halo: int
    num_remote: int
    row_bytes: int
    batch_size: int
    batches_per_epoch: int
    epochs: int | None
    steps_left: int | None
    fanouts: tuple[int, ...] | None
    room_bytes: int = Field(description="by which the buffer may grow")
    bounds: tuple[BoundReading, ...]


class OwnerReading(Reading):
    """What another partition sent, per step; ms_per_pull: from asking to having an answer."""

    part: int
    rows: float
    pulls: float
    ms_per_pull: float

    @classmethod
    def each(cls, windows: Sequence[Window]) -> tuple[Self, ...]:
        """Of all partitions that sent something, in order."""
        steps = sum(window.num_steps for window in windows)
        traffic = [owner for window in windows for owner in window.owners]
        sums = {
            part: np.sum([(o.rows, o.pulls, o.seconds) for o in traffic if o.part == part], axis=0)
            for part in sorted({owner.part for owner in traffic})
        }
        return tuple(
            cls(
                part=part,
                rows=rows / steps,
                pulls=pulls / steps,
                ms_per_pull=1e3 * s / max(pulls, 1),
            )
            for part, (rows, pulls, s) in sums.items()
        )


class ReuseReading(Reading):
    """Of all remote accesses, the share whose last use was so many batches before."""

    first_seen: float
    within_1: float
    within_4: float
    within_16: float
    within_64: float
    longer: float

    @classmethod
    def of_trace(cls, trace: SampledTrace) -> Self:
        """Distances of uses to the last ones, in batches."""
        batches = np.repeat(np.arange(trace.num_batches), trace.widths)
        nodes = trace.real_nodes
        order = np.argsort(nodes, kind="stable")
        distances = np.diff(batches[order])[np.diff(nodes[order]) == 0]
        bins = [0.5, *(edge + 0.5 for edge in _DISTANCES), np.inf]
        counts = [len(nodes) - len(distances), *np.histogram(distances, bins=bins)[0]]
        shares = (float(count) / max(len(nodes), 1) for count in counts)
        return cls(**dict(zip(cls.model_fields, shares, strict=True)))


class AccessReading(Reading):
    """read_access_profile: how remote nodes are used, from the sampled batches.

    working_set_rows: distinct remote nodes of these batches; once_only_fraction: of them, used in
    one batch only; hot_fraction: share of the accesses that go to the tenth of the nodes used
    most; drift: share of the last window's nodes that are new, beyond what is usual;
    pull_fixed_ms, pull_ms_per_row: fitted cost of a step's pulls.
    """

    num_batches: int
    sampled_fraction: float
    working_set_rows: int
    once_only_fraction: float
    hot_fraction: float
    reuse: ReuseReading
    drift: float | None
    owners: tuple[OwnerReading, ...]
    pull_fixed_ms: float | None
    pull_ms_per_row: float | None


class EstimateReading(Reading):
    """estimate_effect: of the change, of keeping things, and of OPT at the same capacity; fetch:
    what an eager fetch costs at once.

    error_fraction: how wrong such estimates of rows were (one sigma), or a prior.
    """

    changed: Effect
    present: Effect
    opt: Effect
    is_calibrated: bool
    error_fraction: float
    fetch: FetchCost | None = None


class RecallReading(Reading):
    """recall_episodes: as the memory keeps them, nearest first."""

    episodes: tuple[dict[str, object], ...]


class StagedReading(Reading):
    """A write tool's answer: nothing was carried out yet; these knobs wait for the review."""

    staged: Literal[True] = True
    knobs: tuple[Knob, ...]
    keeps: bool


def once_only_fraction(uses: IntArray) -> float:
    """Of distinct nodes, used so often, the share that one batch only uses."""
    return float(np.mean(uses == 1))


def hot_fraction(uses: IntArray) -> float:
    """Share of the accesses that go to the tenth of the nodes used most."""
    most_first = np.sort(uses)[::-1]
    return float(most_first[: max(round(_HOT_SHARE * len(uses)), 1)].sum() / uses.sum())
