"""What the read tools answer: numbers and our own words only, so all of it may go to a model.

All rows and times are means per step of one trainer; None: not measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rudder.tools.effects import Effect
from rudder.tools.estimate.means import Trend
from rudder.training.settings import BufferSettings
from rudder.training.workload import Knob, PolicyName


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WindowReading(_Frozen):
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


class PeerReading(_Frozen):
    """Another trainer's last window, per step."""

    rank: int
    step_ms: float
    exposed_wait_ms: float


class MetricsReading(_Frozen):
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
    windows: tuple[WindowReading, ...]
    peers: tuple[PeerReading, ...]


class BufferReading(_Frozen):
    """read_buffer_state: the settings in force and how full the buffer is."""

    settings: BufferSettings
    buffered_rows: int
    buffer_bytes: int
    max_capacity_rows: int
    hit_fraction: float | None
    has_settled: bool = Field(description="under these settings and full, for two windows or more")
    last_change_step: int | None


class BoundReading(_Frozen):
    """The values that a knob may take, ends included; allowed false: not with this policy."""

    knob: Knob
    allowed: bool
    low: float | None
    high: float | None


class WorkloadReading(_Frozen):
    """read_workload: graph, partition, sampler, batches, time left and memory room."""

    policy: PolicyName
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


class OwnerReading(_Frozen):
    """What another partition sent, per step; ms_per_pull: from asking to having an answer."""

    part: int
    rows: float
    pulls: float
    ms_per_pull: float


class ReuseReading(_Frozen):
    """Of all remote accesses, the share whose last use was so many batches before."""

    first_seen: float
    within_1: float
    within_4: float
    within_16: float
    within_64: float
    longer: float


class AccessReading(_Frozen):
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


class EstimateReading(_Frozen):
    """estimate_effect: of the change, of keeping things, and of OPT at the same capacity.

    error_fraction: how wrong such estimates of rows were (one sigma), or a prior.
    """

    changed: Effect
    present: Effect
    opt: Effect
    is_calibrated: bool
    error_fraction: float


class RecallReading(_Frozen):
    """recall_episodes: as the memory keeps them, nearest first."""

    episodes: tuple[dict[str, object], ...]


class StagedReading(_Frozen):
    """A write tool's answer: nothing was carried out yet; these knobs wait for the review."""

    staged: Literal[True] = True
    knobs: tuple[Knob, ...]
    keeps: bool
