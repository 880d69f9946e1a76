"""What binds each trainer, by plain rules over what it measured.

A step consists of compute and exposed wait. Where a trainer waits, its loader is late, because of
rows that come over the link, or because of its own work (sampling, putting batches together).
Where it does not wait, compute binds it: its own, or that of a slower trainer, for which it waits
in the all-reduce.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from rudder.memory.run.series import Point, RankSeries
from rudder.training.metrics import OwnerTraffic

BoundBy = Literal["compute", "processors", "link", "owner", "imbalance", "memory", "unknown"]
_STEADY = 0.5
"""The share of the run at its end that counts: a run begins with a cold buffer."""
_WAITS = 0.05
"""An exposed wait below this share of the step binds nobody."""
_BLOCKED = 0.25
"""A trainer that sleeps for a larger share of its compute waits for somebody in the all-reduce."""
_SLOWER = 1.15
"""Own work beyond so many times the others' makes them wait."""
_SLOW_OWNER = 2.0
"""Time of a pull beyond so many times that of the other partitions."""
_WHOLE = 0.95
"""Of the remote rows, above which a larger buffer brings nothing."""
_REMEDIES: dict[BoundBy, str] = {
    "compute": "nothing that a loader can do: a smaller model, a faster device or more trainers",
    "processors": "give the loader cores: fewer trainers on the host, or a smaller --fanout",
    "link": "a larger buffer or lookahead, which steering looks for; or a faster link",
    "owner": "look at the host of that partition: its processors and its link serve it last",
    "imbalance": "balance the training nodes of the partitions, or look what else that host does",
    "memory": "more memory for buffers: `rudder steer budget`, --memory-budget, or more hosts",
    "unknown": "nothing was measured: the run has no record and is not finished",
}


@dataclass(frozen=True)
class Diagnosis:
    """What binds a rank, the figures that say so, and what helps."""

    rank: int
    bound: BoundBy
    evidence: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.bound]

    def to_dict(self) -> dict[str, Any]:
        """All of it, plain, as for JSON."""
        return {**asdict(self), "remedy": self.remedy}


@dataclass(frozen=True)
class _Means:
    """Per step, in milliseconds, of a rank's steady part; own_ms: compute without sleeping."""

    step_ms: float
    compute_ms: float
    wait_ms: float
    own_ms: float
    pull_ms: float
    work_ms: float
    rows: float
    kib: float
    capacity_rows: int | None

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Means | None:
        steady = points[int(len(points) * (1 - _STEADY)) :]
        steps = sum(point.num_steps for point in steady)
        if not steps:
            return None

        def mean(of: Callable[[Point], float]) -> float:
            return sum(of(point) * point.num_steps for point in steady) / steps

        settings = steady[-1].settings
        return cls(
            step_ms=mean(lambda point: point.step_ms),
            compute_ms=mean(lambda point: point.ms(point.seconds.compute)),
            wait_ms=mean(lambda point: point.wait_ms),
            own_ms=mean(lambda point: point.ms(point.seconds.compute - point.seconds.blocked)),
            pull_ms=mean(lambda point: point.ms(point.seconds.pull)),
            work_ms=mean(lambda point: point.ms(point.seconds.sample + point.seconds.assemble)),
            rows=mean(lambda point: point.rows_fetched),
            kib=mean(lambda point: point.bytes_fetched / 1024),
            capacity_rows=None if settings is None else settings.capacity_rows,
        )


def diagnose(ranks: Sequence[RankSeries]) -> list[Diagnosis]:
    """What binds each rank, in their order."""
    means = {series.rank: _Means.of(series.points) for series in ranks}
    known = {rank: each for rank, each in means.items() if each is not None}
    return [_diagnosis(series, known) for series in ranks]


def _diagnosis(series: RankSeries, known: dict[int, _Means]) -> Diagnosis:
    own = known.get(series.rank)
    if own is None:
        return Diagnosis(series.rank, "unknown", ())
    share = own.wait_ms / own.step_ms if own.step_ms else 0.0
    step = f"a step takes {own.step_ms:.1f} ms: {own.compute_ms:.1f} ms compute, "
    step += f"{own.wait_ms:.1f} ms exposed wait ({share:.0%})"
    if share > _WAITS:
        bound, evidence = _why_late(series, own)
    else:
        bound, evidence = _why_slow(series.rank, own, known)
    return Diagnosis(series.rank, bound, (step, *evidence))


def _why_late(series: RankSeries, own: _Means) -> tuple[BoundBy, tuple[str, ...]]:
    """Of a loader that does not keep up."""
    loader = f"the loader waits {own.pull_ms:.1f} ms for rows and works for {own.work_ms:.1f} ms"
    if own.work_ms > own.pull_ms:
        return "processors", (loader,)
    traffic = f"{own.rows:,.0f} rows ({own.kib:,.0f} KiB) come over the link each step"
    slow = _slow_owner(series.owners)
    if slow is not None:
        return "owner", (loader, traffic, slow)
    full = _full_buffer(series, own)
    return ("link", (loader, traffic)) if full is None else ("memory", (loader, traffic, full))


def _slow_owner(owners: Sequence[OwnerTraffic]) -> str | None:
    """The partition that takes far longer to answer than the others do."""
    ms = {each.part: 1000 * each.seconds / each.pulls for each in owners if each.pulls}
    if len(ms) < 2:
        return None
    worst = max(ms, key=lambda part: ms[part])
    others = median(value for part, value in ms.items() if part != worst)
    if ms[worst] < _SLOW_OWNER * others:
        return None
    return f"partition {worst} answers in {ms[worst]:.1f} ms, the others in {others:.1f} ms"


def _full_buffer(series: RankSeries, own: _Means) -> str | None:
    """Where memory keeps the buffer from holding what is used again."""
    work, capacity = series.workload, own.capacity_rows
    if work is None or capacity is None or work.max_buffer_rows >= _WHOLE * work.num_remote:
        return None
    if capacity < _WHOLE * work.max_buffer_rows:
        return None
    return f"the buffer has all its memory: {capacity:,} of {work.num_remote:,} remote rows"


def _why_slow(rank: int, own: _Means, known: dict[int, _Means]) -> tuple[BoundBy, tuple[str, ...]]:
    """Of a trainer that has its batches in time."""
    asleep = own.compute_ms - own.own_ms
    slowest = max(known, key=lambda each: known[each].own_ms)
    if asleep <= _BLOCKED * own.compute_ms:
        return "compute", ("its batches are ready in time",)
    sleeps = f"of its compute it sleeps for {asleep:.1f} ms, as in the all-reduce"
    if known[slowest].own_ms > _SLOWER * own.own_ms:
        who = f"rank {slowest} computes for {known[slowest].own_ms:.1f} ms, it {own.own_ms:.1f} ms"
        return "imbalance", (sleeps, who)
    late = max(known, key=lambda each: known[each].wait_ms)
    if late != rank and known[late].wait_ms > _WAITS * known[late].step_ms:
        waits = f"rank {late} waits {known[late].wait_ms:.1f} ms for its batch, and all for it"
        return "imbalance", (sleeps, waits)
    if own.pull_ms > _BLOCKED * own.step_ms:
        pulls = f"rows are under way for {own.pull_ms:.1f} ms of the step, on the same link"
        return "link", (sleeps, pulls)
    return "compute", (sleeps, "no rank computes for much longer, and few rows are under way")
