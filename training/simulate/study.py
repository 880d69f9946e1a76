"""What policies would have fetched, compared with OPT; figures are sums over ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from rudder.training.buffer.policy import Policy
from rudder.training.config import BufferSize
from rudder.training.errors import ConfigError
from rudder.training.metrics import RowsFetched
from rudder.training.settings import BufferSettings
from rudder.training.simulate.opt import Limit
from rudder.training.simulate.recording import Recording
from rudder.training.simulate.replay import Counts, joined, replay

OPT = "opt"
MakePolicy = Callable[[str, Recording, BufferSettings], Policy]
"""Makes the policy with that name for a recorded rank."""


class Traffic(BaseModel):
    """One policy at one capacity and lookahead; counts are sums over ranks and counted batches.

    capacity: as requested: a share of each rank's halo, rows, or bytes; capacity_rows: of all ranks
    together; lookahead: None for OPT; cold_rows: distinct rows, which an infinite buffer would
    fetch; ratio_to_opt: None if OPT fetches nothing; accesses_per_second: remote rows replayed per
    second of one core.
    """

    model_config = ConfigDict(frozen=True)

    policy: str
    capacity: float | int
    capacity_rows: int
    lookahead: int | None
    rows_fetched: int
    by_cause: RowsFetched
    remote_rows: int
    cold_rows: int
    opt_rows: int
    ratio_to_opt: float | None
    hit_fraction: float | None
    halo_hit_fraction: float | None
    accesses_per_second: float


@dataclass(frozen=True)
class Question:
    """What to replay: every policy at every capacity and lookahead.

    warm_epochs: epochs at the start that are replayed but not counted.
    """

    policies: tuple[str, ...]
    capacities: tuple[BufferSize, ...]
    lookaheads: tuple[int, ...]
    warm_epochs: int = 0


class Study:
    """Replays the recordings of all ranks of a run."""

    def __init__(self, recordings: Sequence[Recording], *, make: MakePolicy) -> None:
        self._recordings = recordings
        self._make = make
        self._limits = [Limit(recording) for recording in recordings]

    def answer(self, question: Question) -> list[Traffic]:
        """For each capacity: OPT, then the policies; ConfigError if no batch would be counted."""
        starts = [self._first_counted(rec, question.warm_epochs) for rec in self._recordings]
        rows: list[Traffic] = []
        for size in question.capacities:
            best = self._opt(size, starts)
            rows.append(self._traffic(OPT, None, size, best, best, starts))
            for policy in question.policies:
                for ahead in question.lookaheads:
                    found = self._replay(policy, ahead, size, starts)
                    rows.append(self._traffic(policy, ahead, size, found, best, starts))
        return rows

    def _first_counted(self, recording: Recording, warm_epochs: int) -> int:
        first = warm_epochs * recording.header.batches_per_epoch
        num_batches = len(recording.happened)
        if first >= num_batches:
            raise ConfigError.for_field(
                "warm_epochs",
                value=warm_epochs,
                allowed=f"fewer than the trace of rank {recording.header.rank} has,"
                f" {num_batches / max(recording.header.batches_per_epoch, 1):.1f}",
            )
        return first

    def _capacities(self, size: BufferSize) -> Iterator[int]:
        for recording in self._recordings:
            head = recording.header
            rows = size.rows(num_halo=head.num_halo, row_bytes=head.row_bytes)
            yield min(rows, head.num_remote)

    def _opt(self, size: BufferSize, starts: Sequence[int]) -> _Outcome:
        started = time.thread_time()
        counts = [
            limit.opt(rows)[first:]
            for limit, rows, first in zip(self._limits, self._capacities(size), starts, strict=True)
        ]
        return _Outcome(joined(counts), time.thread_time() - started)

    def _replay(self, policy: str, ahead: int, size: BufferSize, starts: Sequence[int]) -> _Outcome:
        started = time.thread_time()
        counts = []
        for recording, rows, first in zip(
            self._recordings, self._capacities(size), starts, strict=True
        ):
            settings = recording.header.settings.model_copy(
                update={"capacity_rows": rows, "lookahead_batches": ahead}
            )
            counts.append(replay(self._make(policy, recording, settings), recording)[first:])
        return _Outcome(joined(counts), time.thread_time() - started)

    def _traffic(
        self,
        policy: str,
        ahead: int | None,
        size: BufferSize,
        outcome: _Outcome,
        best: _Outcome,
        starts: Sequence[int],
    ) -> Traffic:
        counts = outcome.counts
        hits, misses, targets = (
            int(each.sum()) for each in (counts.hits, counts.misses, counts.targets)
        )
        halo_rows = int(counts.halo_rows.sum())
        opt_rows = int(best.counts.misses.sum())
        remote_rows = hits + misses
        accesses = sum(len(recording.nodes) for recording in self._recordings)
        cold = sum(
            int(limit.cold[first:].sum()) for limit, first in zip(self._limits, starts, strict=True)
        )
        return Traffic(
            policy=policy,
            capacity=size.amount if size.unit == "halo_fraction" else int(size.amount),
            capacity_rows=sum(self._capacities(size)),
            lookahead=ahead,
            rows_fetched=misses + targets,
            by_cause=RowsFetched(miss=misses, target=targets),
            remote_rows=remote_rows,
            cold_rows=cold,
            opt_rows=opt_rows,
            ratio_to_opt=(misses + targets) / opt_rows if opt_rows else None,
            hit_fraction=hits / remote_rows if remote_rows else None,
            halo_hit_fraction=int(counts.halo_hits.sum()) / halo_rows if halo_rows else None,
            accesses_per_second=accesses / max(outcome.seconds, 1e-9),
        )


@dataclass(frozen=True)
class _Outcome:
    counts: Counts
    seconds: float
