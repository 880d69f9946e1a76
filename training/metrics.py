"""What is measured: counters per batch, summed to windows, epochs and the run.

A metric that was not measured is None, never 0. Times are seconds of wall clock.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rudder.training.access_slice import AccessSlice
from rudder.training.config import RunConfig
from rudder.training.settings import BufferSettings

Judgement = Literal["confirmed", "reverted", "abandoned", "unjudged"]


class LastChange(BaseModel):
    """step: from which on it held; change: for people; judgement: what its trial came to,
    `unjudged` where the run ended first."""

    model_config = ConfigDict(frozen=True)

    step: int
    change: str
    judgement: Judgement


class ModelUse(BaseModel):
    """What asking a language model brought and cost one rank.

    questions: that were to be answered; valid_first, valid_second: answered usably at once, and
    after one re-ask; fallbacks: left to the embedded agent, by the name of the error; calls: over
    the network; latency: milliseconds, None before the first answer.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    mode: str | None = None
    questions: int = 0
    valid_first: int = 0
    valid_second: int = 0
    fallbacks: dict[str, int] = {}
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None

    @property
    def pass_at_1(self) -> float | None:
        """Share of the questions that reached the model and were answered usably at once."""
        reached = self.questions - self.fallbacks.get("NotAskedError", 0)
        return self.valid_first / reached if reached else None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class RowsFetched(_Frozen):
    """Rows that crossed the network, by cause: missed inputs, eager targets, seeds of elsewhere."""

    miss: int = 0
    target: int = 0
    seed: int = 0

    @property
    def total(self) -> int:
        """All rows, whatever the cause."""
        return self.miss + self.target + self.seed

    def __add__(self, other: RowsFetched) -> RowsFetched:
        miss, target = self.miss + other.miss, self.target + other.target
        return RowsFetched(miss=miss, target=target, seed=self.seed + other.seed)


class RowCounts(_Frozen):
    """Counts of feature rows; `hits + rows_fetched.miss == remote_rows`.

    input_rows: rows the model was given; remote_rows: those of nodes of other partitions;
    halo_rows: remote rows within one hop of the local partition; halo_hits: hits among them.
    """

    input_rows: int = 0
    remote_rows: int = 0
    halo_rows: int = 0
    hits: int = 0
    halo_hits: int = 0
    rows_fetched: RowsFetched = RowsFetched()
    bytes_fetched: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            input_rows=self.input_rows + other.input_rows,
            remote_rows=self.remote_rows + other.remote_rows,
            halo_rows=self.halo_rows + other.halo_rows,
            hits=self.hits + other.hits,
            halo_hits=self.halo_hits + other.halo_hits,
            rows_fetched=self.rows_fetched + other.rows_fetched,
            bytes_fetched=self.bytes_fetched + other.bytes_fetched,
        )

    @property
    def hit_fraction(self) -> float | None:
        """Hits over remote rows; None where no remote row was asked for."""
        return self.hits / self.remote_rows if self.remote_rows else None

    @property
    def halo_hit_fraction(self) -> float | None:
        """Hits over halo rows, the published hit rate (arXiv 2602.23556)."""
        return self.halo_hits / self.halo_rows if self.halo_rows else None


class Seconds(_Frozen):
    """Where the time went. sample, pull and assemble are the loader thread's and overlap with
    the main thread's compute; exposed_wait is what the main thread stood still for data; blocked
    is the part of compute in which it slept, as in an all-reduce that waits for the link.

    pull is the time the loader thread waited for rows with nothing else to do.
    """

    sample: float = 0.0
    pull: float = 0.0
    assemble: float = 0.0
    exposed_wait: float = 0.0
    compute: float = 0.0
    blocked: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            sample=self.sample + other.sample,
            pull=self.pull + other.pull,
            assemble=self.assemble + other.assemble,
            exposed_wait=self.exposed_wait + other.exposed_wait,
            compute=self.compute + other.compute,
            blocked=self.blocked + other.blocked,
        )


class OwnerTraffic(_Frozen):
    """What one other partition sent: rows, in so many answers, and the seconds from asking to
    having each answer, summed. Pulls overlap, so seconds may exceed the wall clock."""

    part: int
    rows: int
    pulls: int
    seconds: float


class StepTiming(_Frozen):
    """A trainer's pace in its last window, as all trainers tell each other: seconds per step."""

    rank: int
    window: int
    step_seconds: float
    exposed_wait_seconds: float


_SELDOM = 0.2
"""Share of the time below which rows on their way and blocked steps hardly ever coincide."""


class Window(_Frozen):
    """One rank's measurements over consecutive steps; what the agents live on.

    wall_seconds: from the first step's beginning to the last one's end, evaluations left out;
    peers: the other ranks' last words, older or newer by a window or two; accesses: None where
    the loader has no buffer; settings: as they are when it ends, for batches from settings_since
    on, None where that is not known.
    """

    rank: int
    index: int
    epoch: int
    first_step: int
    num_steps: int
    rows: RowCounts
    seconds: Seconds
    settings: BufferSettings
    settings_since: int | None = None
    buffered_rows: int = Field(description="rows in the buffer at the window's end")
    waiting_batches: int = Field(description="batches ready for the trainer at the window's end")
    wall_seconds: float | None = None
    owners: tuple[OwnerTraffic, ...] = ()
    peers: tuple[StepTiming, ...] = ()
    accesses: AccessSlice | None = None

    @property
    def trained_seconds(self) -> float:
        """How long its steps took, evaluations left out; what is known of it where the wall clock
        was not read."""
        return self.wall_seconds or self.seconds.compute + self.stalled_seconds

    @property
    def stalled_seconds(self) -> float:
        """What the trainer stood still for rows: the exposed wait, and of the time that it was
        blocked within its steps the share in which rows were on their way.

        Rows and all-reduce share the link. Where pulls fill it, the all-reduce waits behind them
        while the loader is ahead, so that there is no exposed wait to see. Where rows are seldom
        on their way, what blocks a step is something else.
        """
        seconds = self.seconds
        if not self.wall_seconds:
            return seconds.exposed_wait
        on_the_way = min(seconds.pull / self.wall_seconds, 1.0)
        often = max(on_the_way - _SELDOM, 0.0) / (1.0 - _SELDOM)
        return seconds.exposed_wait + seconds.blocked * often

    @property
    def pace(self) -> StepTiming | None:
        """Its steps' time and wait; None where the wall clock was not read."""
        if self.wall_seconds is None:
            return None
        return StepTiming(
            rank=self.rank,
            window=self.index,
            step_seconds=self.wall_seconds / self.num_steps,
            exposed_wait_seconds=self.stalled_seconds / self.num_steps,
        )


class EpochMetrics(_Frozen):
    """One rank's epoch; step_seconds_p99: of waiting for a batch and computing it, together."""

    epoch: int
    num_steps: int
    seconds_total: float
    seconds: Seconds
    rows: RowCounts
    loss: float | None
    step_seconds_p99: float | None = None


class Memory(_Frozen):
    """Bytes of one trainer."""

    peak_rss_bytes: int
    buffer_rows: int | None = Field(None, description="rows that the buffer has memory for")
    buffer_bytes: int = Field(0, description="buffer_rows times the bytes of a row")
    waiting_bytes: int = Field(0, description="largest size of sampled and assembled batches")
    map_bytes: int = Field(0, description="per-node state of the policy")
    map_nodes: int = Field(0, description="remote nodes that the map covers")


class RankReport(_Frozen):
    """All of one rank's run."""

    rank: int
    host: str
    epochs: tuple[EpochMetrics, ...]
    memory: Memory
    settings: BufferSettings | None = None
    num_halo: int = 0
    row_bytes: int = 0


class Evaluation(_Frozen):
    """Quality on the test and validation sets; F1 is micro-averaged."""

    epoch: int
    test_accuracy: float
    val_accuracy: float | None
    test_f1: float
    seconds: float


CountSource = Literal["record", "controller", "cut short"]


class SteeringCounts(_Frozen):
    """Decisions of one rank's controller by what became of them.

    decisions: times the agents were asked; reconsidered: where a second planner's plan was tried,
    as the first came to nothing; proposed: plans that change something; late: dropped as their
    observation was too old; abandoned: changes whose trial was cut short; rows_errors: (measured -
    expected) / expected rows fetched of each change that was tried; ages_steps: of each applied
    change, steps from its observation until it was in force; model, last_change: None without one;
    source: `record` where all of it can be looked up in the run's record, `controller` where that
    has gaps and the controller has counted on, `cut short` where its counts ended with the disk.
    """

    rank: int = 0
    source: CountSource = "record"
    decisions: int = 0
    reconsidered: int = 0
    proposed: int = 0
    approved: int = 0
    trimmed: int = 0
    refused: int = 0
    applied: int = 0
    confirmed: int = 0
    reverted: int = 0
    abandoned: int = 0
    late: int = 0
    rows_errors: tuple[float, ...] = ()
    ages_steps: tuple[int, ...] = ()
    model: ModelUse | None = None
    last_change: LastChange | None = None


class Summary(_Frozen):
    """`summary.json` of a run; sums are over ranks and epochs."""

    run_dir: str
    dataset: str
    loader: str
    policy: str | None
    test_accuracy: float | None
    evaluations: tuple[Evaluation, ...]
    remote_rows: int
    rows_fetched: int
    hit_fraction: float | None
    halo_hit_fraction: float | None
    epoch_seconds: tuple[float, ...] = Field(description="of the slowest rank, per epoch")
    ranks: tuple[RankReport, ...]
    config: RunConfig
    versions: dict[str, str]
    network: str
    steering: tuple[SteeringCounts, ...] = Field((), description="per rank, where it was steered")
