"""What is measured: counters per batch, summed to windows, epochs and the run.

A metric that was not measured is None, never 0. Times are seconds of wall clock.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rudder.training.config import RunConfig
from rudder.training.settings import BufferSettings, Frozen
from rudder.training.turn import RankTurn

NodeArray = NDArray[np.int32]


class AccessSlice(Frozen):
    """The sampled remote numbers of a window's batches, in the order of use.

    rate: share of the nodes that are sampled; sizes: sampled nodes of each batch; nodes: their
    remote numbers, little-endian int32, zlib, base64.
    """

    rate: float = Field(gt=0, le=1)
    sizes: tuple[int, ...]
    nodes: str

    @classmethod
    def of(cls, batches: Sequence[NodeArray], *, rate: float) -> AccessSlice:
        """Pack batches: int32[n] sampled remote numbers each."""
        joined = np.concatenate([np.empty(0, dtype=np.int32), *batches]).astype("<i4")
        packed = base64.b64encode(zlib.compress(joined.tobytes(), 1)).decode("ascii")
        return cls(rate=rate, sizes=tuple(len(batch) for batch in batches), nodes=packed)

    def batches(self) -> list[NodeArray]:
        """Unpack the batches; raises ValueError if the text is damaged."""
        try:
            content = zlib.decompress(base64.b64decode(self.nodes, validate=True))
        except zlib.error as error:
            raise ValueError(f"the access slice is damaged: {error}") from None
        joined = np.frombuffer(content, dtype="<i4").astype(np.int32)
        if len(joined) != sum(self.sizes):
            raise ValueError(f"the access slice has {len(joined)} nodes, not {sum(self.sizes)}")
        ends = np.cumsum(np.array(self.sizes, dtype=np.int64))[:-1]
        return list(np.split(joined, ends)) if self.sizes else []


Judgement = Literal["confirmed", "reverted", "abandoned", "unjudged"]


class LastChange(Frozen):
    """step: from which on it held; change: for people; judgement: what its trial came to,
    `unjudged` where the run ended first."""

    step: int
    change: str
    judgement: Judgement


class ModelUse(Frozen):
    """What asking a language model brought and cost one rank.

    questions: that were to be answered; valid_first, valid_second: answered usably at once, and
    after one re-ask; fallbacks: left to the embedded agent, by the error; words: what the
    server said at the first error of each name, without secrets; stale: usable answers that came
    after what was asked about had changed; calls: over the network; latency: milliseconds, None
    before the first answer.
    """

    name: str
    mode: str | None = None
    questions: int = 0
    valid_first: int = 0
    valid_second: int = 0
    fallbacks: dict[str, int] = Field(default_factory=dict)
    words: dict[str, str] = Field(default_factory=dict)
    stale: int = 0
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


class _Summed(Frozen):
    def __add__(self, other: Self) -> Self:
        added = other.__dict__
        return type(self)(**{name: value + added[name] for name, value in self.__dict__.items()})


class RowsFetched(_Summed):
    """Rows that crossed the network, by cause.

    miss: missed inputs; target: eager targets that were fetched with a batch; seed: seeds of
    elsewhere; idle: eager targets that were fetched while the loader was idle.
    """

    miss: int = 0
    target: int = 0
    seed: int = 0
    idle: int = 0

    @property
    def of_batches(self) -> int:
        """Rows that batches wait for: what settings bring in each step."""
        return self.miss + self.target + self.seed

    @property
    def total(self) -> int:
        """All rows, whatever the cause."""
        return self.of_batches + self.idle


class RowCounts(_Summed):
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

    @property
    def hit_fraction(self) -> float | None:
        """Hits over remote rows; None where no remote row was asked for."""
        return self.hits / self.remote_rows if self.remote_rows else None

    @property
    def halo_hit_fraction(self) -> float | None:
        """Hits over halo rows, the published hit rate (arXiv 2602.23556)."""
        return self.halo_hits / self.halo_rows if self.halo_rows else None


class Seconds(_Summed):
    """Where the time went.

    sample, pull, assemble: of the loader thread, while the main thread computes; pull: waiting
    for rows with nothing else to do; pull_work: the part of pull in which it took rows in;
    exposed_wait: the main thread waits for a batch; compute: of the main thread; blocked: the part
    of compute in which it slept, as in an all-reduce that waits for the link; core_wait: the part
    in which it could have gone on, and others had the cores.
    """

    sample: float = 0.0
    pull: float = 0.0
    assemble: float = 0.0
    exposed_wait: float = 0.0
    compute: float = 0.0
    blocked: float = 0.0
    pull_work: float = 0.0
    core_wait: float = 0.0


class OwnerTraffic(Frozen):
    """Rows that one other partition sent.

    pulls: number of answers; seconds: from request to answer, summed over pulls, which overlap,
    so that the sum may exceed the wall clock.
    """

    part: int
    rows: int
    pulls: int
    seconds: float


class StepTiming(Frozen):
    """Seconds per step of a trainer's last window, as the trainers tell each other.

    num_ranks: ranks that it stands for; of several it is the timing of the one that waits longest,
    and lowest_rank is the lowest of them.
    """

    rank: int
    window: int
    step_seconds: float
    exposed_wait_seconds: float
    num_ranks: int = 1
    lowest_rank: int | None = None


_SELDOM = 0.2
"""If rows are under way for a smaller share of the time, they are not what blocks steps."""


class Window(Frozen):
    """One rank's measurements over consecutive steps; the agents decide on these.

    rows, edge_rows: of tensors of nodes, and of edges, which have a buffer of their own; settings
    and estimates are of nodes; wall_seconds: from the beginning of the first step to the end of the
    last, without evaluations; peers: the other ranks' latest timings, one by one or of groups of
    ranks, which may be a window or two older or newer; turn: the newest of the job, None: nobody
    has taken one; accesses: None where the loader has no buffer; settings: those in force at the
    end; settings_since: the first batch under these settings, None where it is not known.
    """

    rank: int
    index: int
    epoch: int
    first_step: int
    num_steps: int
    rows: RowCounts
    edge_rows: RowCounts = RowCounts()
    seconds: Seconds
    settings: BufferSettings
    settings_since: int | None = None
    buffered_rows: int = Field(description="rows in the buffer at the window's end")
    waiting_batches: int = Field(description="batches ready for the trainer at the window's end")
    wall_seconds: float | None = None
    owners: tuple[OwnerTraffic, ...] = ()
    peers: tuple[StepTiming, ...] = ()
    turn: RankTurn | None = None
    accesses: AccessSlice | None = None

    @property
    def trained_seconds(self) -> float:
        """Seconds that the steps took, without evaluations; a sum of parts where the wall clock
        was not read."""
        return self.wall_seconds or self.seconds.compute + self.stalled_seconds

    @property
    def stalled_seconds(self) -> float:
        """Seconds that the trainer waited because of rows: the exposed wait, and a share of the
        time for which its steps were blocked.

        Rows and all-reduce share the link. If pulls fill the link, the all-reduce waits behind
        them although the loader is ahead and no wait is exposed. If rows are seldom under way,
        something else blocks the steps.
        """
        seconds = self.seconds
        if not self.wall_seconds:
            return seconds.exposed_wait
        under_way = min(seconds.pull / self.wall_seconds, 1.0)
        often = max(under_way - _SELDOM, 0.0) / (1.0 - _SELDOM)
        return seconds.exposed_wait + seconds.blocked * often

    @property
    def timing(self) -> StepTiming | None:
        """Its steps' time and wait; None where the wall clock was not read."""
        if self.wall_seconds is None:
            return None
        return StepTiming(
            rank=self.rank,
            window=self.index,
            step_seconds=self.wall_seconds / self.num_steps,
            exposed_wait_seconds=self.stalled_seconds / self.num_steps,
        )


class EpochMetrics(Frozen):
    """One rank's epoch.

    loss: mean over its steps, without those that were skipped; step_seconds_p99: of waiting for a
    batch and computing it, together.
    """

    epoch: int
    num_steps: int
    seconds_total: float
    seconds: Seconds
    rows: RowCounts
    loss: float | None
    step_seconds_p99: float | None = None
    num_skipped: int = Field(0, description="steps left out as their gradients were not finite")


class Memory(Frozen):
    """Bytes of one trainer."""

    peak_rss_bytes: int
    buffer_rows: int | None = Field(None, description="rows that the buffer has memory for")
    buffer_bytes: int = Field(0, description="buffer_rows times the bytes of a row")
    budget_bytes: int = Field(0, description="what this trainer's buffer might take at the start")
    waiting_bytes: int = Field(0, description="largest size of sampled and assembled batches")
    map_bytes: int = Field(0, description="per-node state of the policy")
    map_nodes: int = Field(0, description="remote nodes that the map covers")


class RankReport(Frozen):
    """All of one rank's run."""

    rank: int
    host: str
    epochs: tuple[EpochMetrics, ...]
    memory: Memory
    settings: BufferSettings | None = None
    num_halo: int = 0
    row_bytes: int = 0
    num_checkpoints: int = 0
    checkpoint_seconds: float = Field(0.0, description="that checkpoints took from training")


class Score(Frozen):
    """One measure of a model's quality, over all ranks; None where a set is empty."""

    name: str
    test: float | None
    val: float | None
    higher_is_better: bool = True

    @property
    def merit(self) -> float | None:
        """The validation score, or minus it, so that more is better."""
        return self.val if self.val is None or self.higher_is_better else -self.val


class Evaluation(Frozen):
    """Quality after an epoch; the first score is the main one.

    model_error: why the model could not be written then.
    """

    epoch: int
    scores: tuple[Score, ...]
    seconds: float
    model_error: str | None = None

    def score(self, name: str) -> Score | None:
        """The score of this name."""
        return next((score for score in self.scores if score.name == name), None)


CountSource = Literal["record", "controller", "cut short"]


class SteeringCounts(Frozen):
    """Decisions of one rank's controller by what became of them.

    decisions: times the agents were asked; joined: changes made because another rank decided on
    them, without asking; reconsidered: where a second planner's plan was tried,
    as the first came to nothing; proposed: plans that change something; late: dropped as their
    observation was too old; abandoned: changes whose trial was cut short; rows_errors: (measured -
    expected) / expected rows fetched of each change that was tried, the latest; ages_steps: of each
    applied change, the latest, steps from its observation until it was in force; model,
    last_change: None without one; source: `record` where all of it can be looked up in the run's
    record, `controller` where that has gaps and the controller has counted on, `cut short` where
    its counts ended with the disk.
    """

    rank: int = 0
    source: CountSource = "record"
    decisions: int = 0
    joined: int = 0
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


class Summary(Frozen):
    """`summary.json` of a run; sums are over ranks and epochs."""

    run_dir: str
    dataset: str
    loader: str
    policy: str | None
    test_accuracy: float | None = Field(description="None where the task has no accuracy")
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
