"""Replays a recording through a policy: the calls of the live loader, without any rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray, Plan, Policy
from rudder.training.simulate.recording import Recording
from rudder.training.trace import CHANGE, OBSERVE, PLAN


@dataclass(frozen=True)
class Counts:
    """Rows per batch, each int64[batches]; hits + misses are all remote rows."""

    hits: IntArray
    misses: IntArray
    targets: IntArray
    halo_rows: IntArray
    halo_hits: IntArray

    def __getitem__(self, batches: slice) -> Counts:
        return Counts(*(getattr(self, each.name)[batches] for each in fields(self)))


class _Tally:
    def __init__(self, is_halo: NDArray[np.bool_]) -> None:
        self._is_halo = is_halo
        self._rows: list[tuple[int, ...]] = []

    def add(self, plan: Plan, nodes: IntArray) -> None:
        of_halo = self._is_halo[nodes]
        plan_rows = (len(plan.hits), len(plan.misses), len(plan.targets))
        self._rows.append((*plan_rows, int(of_halo.sum()), int(of_halo[plan.hits].sum())))

    def counts(self) -> Counts:
        return Counts(*np.array(self._rows, dtype=np.int64).reshape(-1, 5).T)


def replay(policy: Policy, recording: Recording) -> Counts:
    """Plan every batch that was not skipped, after observing as many as the policy's lookahead.

    At the start the window grows by one batch per batch, as in the loader (Pipeline._may_plan).
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

    If `policy` is as it was at the start of the run, it makes the plans of the run
    (`Recording.planned`).
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
    """The batches of several replays, one after the other."""
    names = [each.name for each in fields(Counts)]
    return Counts(*(np.concatenate([getattr(each, name) for each in counts]) for name in names))
