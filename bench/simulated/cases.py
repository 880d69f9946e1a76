"""The simulated workloads on which planners are compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from rudder.bench.simulated.access_traces import AccessTrace, IntArray, ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.settings import BufferSettings
from rudder.training.workload import PolicyName

NUM_REMOTE = 6000
_DRAWS = 600
_PHASE_BATCHES = 160


@dataclass(frozen=True)
class Alternating:
    """Two streams in turns, each for `phase_batches` batches."""

    one: ZipfStream
    other: ZipfStream
    phase_batches: int = _PHASE_BATCHES

    @property
    def num_remote(self) -> int:
        """Nodes of other partitions."""
        return self.one.num_remote

    def batch(self, number: int) -> IntArray:
        """int64[n], sorted."""
        is_first = number // self.phase_batches % 2 == 0
        return (self.one if is_first else self.other).batch(number)


def _skewed(seed: int) -> ZipfStream:
    return ZipfStream(NUM_REMOTE, _DRAWS, exponent=0.8, seed=seed)


def _flat(seed: int) -> ZipfStream:
    return ZipfStream(NUM_REMOTE, _DRAWS, exponent=0.3, seed=seed)


def _phases(seed: int) -> Alternating:
    return Alternating(_skewed(seed), _flat(seed))


STREAMS: dict[str, Callable[[int], AccessTrace]] = {
    "skewed": _skewed,
    "flat": _flat,
    "phases": _phases,
}
"""A stream for a seed, by name."""
ROW_MS = (0.02, 0.1, 0.3)
"""Milliseconds a row: of a network hidden by compute, of one a buffer can hide, of a slow one."""
STARTS = {
    "poor": BufferSettings(capacity_rows=60, lookahead_batches=4),
    "usual": BufferSettings(capacity_rows=NUM_REMOTE // 4, lookahead_batches=40),
}
GRID = tuple(
    BufferSettings(capacity_rows=rows, lookahead_batches=ahead)
    for rows in (300, 1500, 3000, 6000)
    for ahead in (8, 48)
)
"""Fixed settings; planners are compared with the best of them."""


@dataclass(frozen=True)
class Case:
    """One workload: all planners get the same accesses and the same noise."""

    stream: str
    row_ms: float
    start: str
    seed: int
    policy: PolicyName = "lookahead"

    def trainer(self, settings: BufferSettings | None = None) -> SimulatedTrainer:
        """A trainer at its first step; settings: instead of those that the case starts with."""
        chosen = settings or STARTS[self.start]
        if self.policy == "score":
            chosen = chosen.model_copy(update={"replacement_interval": 0})
        return SimulatedTrainer(
            STREAMS[self.stream](self.seed),
            settings=chosen,
            costs=Costs(row_ms=self.row_ms),
            policy=self.policy,
            seed=self.seed,
        )


def all_cases(*, seeds: int, policy: PolicyName = "lookahead") -> list[Case]:
    """Every stream at every cost from every start, once for each of `seeds` seeds."""
    chosen = itertools.product(STREAMS, ROW_MS, STARTS, range(seeds))
    return [Case(*each, policy) for each in chosen]
