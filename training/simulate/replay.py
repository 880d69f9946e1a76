"""Driving a policy with a recording: the same calls as the live loader makes, and no rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray, Plan, Policy
from rudder.training.simulate.recording import Recording
from rudder.training.trace import CHANGE, OBSERVE, PLAN


@dataclass(frozen=True)
class Counts:
    """Rows per batch, each int64[batches]; `hits + misses` are the remote rows."""

    hits: IntArray
    misses: IntArray
    targets: IntArray
    halo_rows: IntArray
    halo_hits: IntArray

    def __getitem__(self, batches: slice) -> Counts:
        return Counts(
            self.hits[batches],
            self.misses[batches],
            self.targets[batches],
            self.halo_rows[batches],
            self.halo_hits[batches],
        )


class _Tally:
    def __init__(self, is_halo: NDArray[np.bool_]) -> None:
        self._is_halo = is_halo
        self._rows: list[tuple[int, int, int, int, int]] = []

    def add(self, plan: Plan, nodes: IntArray) -> None:
        of_halo = self._is_halo[nodes]
        self._rows.append(
            (
                len(plan.hits),
                len(plan.misses),
                len(plan.targets),
                int(np.count_nonzero(of_halo)),
                int(np.count_nonzero(of_halo[plan.hits])),
            )
        )

    def counts(self) -> Counts:
        columns = np.array(self._rows, dtype=np.int64).reshape(-1, 5).T
        return Counts(*columns)


def replay(policy: Policy, recording: Recording) -> Counts:
    """Plan every batch that happened, each with the policy's own lookahead observed.

    At the start the window grows by one a batch, as the loader lets it (Pipeline._may_plan).
    """
    tally = _Tally(recording.is_halo)
    batches = recording.happened
    waiting: list[IntArray] = []
    observed = 0
    for number in range(len(batches)):
        ahead = min(policy.settings.lookahead_batches, number)
        while observed < min(number + ahead + 1, len(batches)):
            waiting.append(recording.batch(batches[observed]))
            policy.observe(waiting[-1])
            observed += 1
        nodes = waiting.pop(0)
        tally.add(policy.plan(nodes), nodes)
    return tally.counts()


def replay_calls(policy: Policy, recording: Recording) -> Counts:
    """Make exactly the calls that were recorded, changes of settings included.

    A policy as the run began with then makes the run's own plans: `Recording.planned`.
    """
    tally = _Tally(recording.is_halo)
    changes = iter(recording.changes)
    waiting: list[IntArray] = []
    observed = 0
    for kind in recording.calls.tolist():
        if kind == OBSERVE:
            waiting.append(recording.batch(observed))
            policy.observe(waiting[-1])
            observed += 1
        elif kind == CHANGE:
            policy.apply(next(changes))
        else:
            nodes = waiting.pop(0)
            if kind == PLAN:
                tally.add(policy.plan(nodes), nodes)
            else:
                policy.skip(nodes)
    return tally.counts()


def joined(counts: Sequence[Counts]) -> Counts:
    """Batches of several replays as if of one."""
    return Counts(
        hits=np.concatenate([each.hits for each in counts]),
        misses=np.concatenate([each.misses for each in counts]),
        targets=np.concatenate([each.targets for each in counts]),
        halo_rows=np.concatenate([each.halo_rows for each in counts]),
        halo_hits=np.concatenate([each.halo_hits for each in counts]),
    )
