"""What policies would have fetched, compared with OPT; figures are sums over ranks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import POLICIES, PolicyOptions, make_policy, parse_variant
from rudder.training.config import BufferSize
from rudder.training.errors import ConfigError
from rudder.training.metrics import RowsFetched
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Frozen
from rudder.training.simulate.history_policies import QUEUES, HistoryBuffer
from rudder.training.simulate.recording import Recording
from rudder.training.simulate.replay import Counts, Limit, joined, replay_trace

SIMULATED_POLICIES = (*POLICIES, *QUEUES)
OPT = "opt"


def make_simulated(
    name: str,
    view: PartitionView,
    settings: BufferSettings,
    options: PolicyOptions | None = None,
) -> Policy:
    """Make a policy of runs, or one that only the simulator has; raises ConfigError."""
    if name in QUEUES:
        return HistoryBuffer(name, settings, num_remote=view.num_remote)
    return make_policy(name, view, settings, options or PolicyOptions())


def make_policy_of(text: str, recording: Recording, settings: BufferSettings) -> Policy:
    """Make the policy `name` or `name:key=value` for one recorded rank; raises ConfigError.

    A recording has no in-edges, so sources that need them (vip) are refused.
    """
    header = recording.header
    defaults = PolicyOptions(
        batch_size=header.batch_size, epoch_batches=header.batches_per_epoch, seed=header.rank
    )
    name, options = parse_variant(text, defaults, allowed=SIMULATED_POLICIES)
    fresh = settings.model_copy(update={"replacement_interval": None})
    return make_simulated(name, recording.view, fresh, options)


class Traffic(Frozen):
    """One policy at one capacity and lookahead; counts are sums over ranks and counted batches.

    capacity: as requested: a share of each rank's halo, rows, or bytes; capacity_rows: of all ranks
    together; lookahead: None for OPT; cold_rows: distinct rows, which an infinite buffer would
    fetch; ratio_to_opt: None if OPT fetches nothing; accesses_per_second: remote rows replayed per
    second of one core.
    """

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
class Study:
    """What to replay: every policy at every capacity and lookahead.

    warm_epochs: epochs at the start that are replayed but not counted.
    """

    policies: tuple[str, ...]
    capacities: tuple[BufferSize, ...]
    lookaheads: tuple[int, ...]
    warm_epochs: int = 0

    @property
    def num_replays(self) -> int:
        """Of all ranks together: OPT and the policies, at each capacity."""
        return len(self.capacities) * (1 + len(self.policies) * len(self.lookaheads))


@dataclass(frozen=True)
class _Rank:
    """first: the first batch that is counted."""

    recording: Recording
    limit: Limit
    first: int

    @classmethod
    def of(cls, recording: Recording, *, warm_epochs: int) -> _Rank:
        """Raises ConfigError if no batch is left after the warm epochs."""
        head, num_batches = recording.header, len(recording.happened)
        first = warm_epochs * head.batches_per_epoch
        if first >= num_batches:
            num_epochs = num_batches / max(head.batches_per_epoch, 1)
            allowed = f"fewer than the epochs in the trace of rank {head.rank}, {num_epochs:.1f}"
            raise ConfigError.for_field("warm_epochs", value=warm_epochs, allowed=allowed)
        return cls(recording, Limit(recording), first)

    def capacity(self, size: BufferSize) -> int:
        """In rows, at most the remote nodes of the rank."""
        head = self.recording.header
        rows = size.rows(num_halo=head.num_halo, row_bytes=head.row_bytes, auto=head.num_remote)
        return min(rows, head.num_remote)

    def counts(self, size: BufferSize, policy: str, ahead: int | None) -> Counts:
        """Rows of each counted batch; ahead: None for OPT."""
        rows = self.capacity(size)
        if ahead is None:
            return self.limit.opt(rows)[self.first :]
        changed = {"capacity_rows": rows, "lookahead_batches": ahead}
        settings = self.recording.header.settings.model_copy(update=changed)
        policy_of_rank = make_policy_of(policy, self.recording, settings)
        return replay_trace(policy_of_rank, self.recording)[self.first :]


def answer(
    recordings: Sequence[Recording],
    study: Study,
    *,
    on_replay: Callable[[], object] = lambda: None,
) -> list[Traffic]:
    """For each capacity: OPT, then the policies; recordings: of all ranks of a run.

    on_replay: called after each of the `Study.num_replays`.

    Raises ConfigError if a policy is unknown or no batch would be counted.
    """
    ranks = [_Rank.of(each, warm_epochs=study.warm_epochs) for each in recordings]
    asked: list[tuple[str, int | None]] = [(OPT, None)]
    asked += itertools.product(study.policies, study.lookaheads)
    found: list[Traffic] = []
    for size in study.capacities:
        opt_rows = 0
        for policy, ahead in asked:
            row = _traffic(ranks, size, policy, ahead, opt_rows=opt_rows)
            opt_rows = row.opt_rows
            found.append(row)
            on_replay()
    return found


def _traffic(
    ranks: Sequence[_Rank], size: BufferSize, policy: str, ahead: int | None, *, opt_rows: int
) -> Traffic:
    """One row; opt_rows: rows that OPT fetches, not used for OPT itself."""
    started = time.thread_time()
    counts = joined([rank.counts(size, policy, ahead) for rank in ranks])
    seconds = time.thread_time() - started
    hits, misses, targets = (
        int(each.sum()) for each in (counts.hits, counts.misses, counts.targets)
    )
    opt_rows = misses if ahead is None else opt_rows
    halo_rows, remote_rows = int(counts.halo_rows.sum()), hits + misses
    accesses = sum(len(rank.recording.nodes) for rank in ranks)
    return Traffic(
        policy=policy,
        capacity=size.amount if size.unit == "halo_fraction" else int(size.amount),
        capacity_rows=sum(rank.capacity(size) for rank in ranks),
        lookahead=ahead,
        rows_fetched=misses + targets,
        by_cause=RowsFetched(miss=misses, target=targets),
        remote_rows=remote_rows,
        cold_rows=sum(int(rank.limit.cold[rank.first :].sum()) for rank in ranks),
        opt_rows=opt_rows,
        ratio_to_opt=(misses + targets) / opt_rows if opt_rows else None,
        hit_fraction=hits / remote_rows if remote_rows else None,
        halo_hit_fraction=int(counts.halo_hits.sum()) / halo_rows if halo_rows else None,
        accesses_per_second=accesses / max(seconds, 1e-9),
    )
