"""Replays a recording through a policy, and computes the fewest rows that any policy can fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import BatchPlan, IntArray, Policy
from rudder.training.compiled import compiled
from rudder.training.settings import Change, FetchTargets
from rudder.training.simulate.recording import Recording
from rudder.training.trace import CHANGE, FETCH, OBSERVE, PLAN

Nodes = NDArray[np.int32] | IntArray
_BLOCK = 64
"""Batches per block; kept rows are also summed by block, to find the furthest one quickly."""


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

    def add(self, plan: BatchPlan, nodes: IntArray) -> None:
        of_halo = self._is_halo[nodes]
        plan_rows = (len(plan.hits), len(plan.misses), len(plan.targets))
        self._rows.append((*plan_rows, int(of_halo.sum()), int(of_halo[plan.hits].sum())))

    def counts(self) -> Counts:
        return Counts(*np.array(self._rows, dtype=np.int64).reshape(-1, 5).T)


def replay_trace(policy: Policy, recording: Recording) -> Counts:
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
    changes, fetched = iter(recording.changes), iter(recording.fetched)
    waiting: list[IntArray] = []
    observed = 0
    for kind in recording.calls.tolist():
        if kind == OBSERVE:
            waiting.append(recording.batch(observed))
            policy.observe(waiting[-1])
            observed += 1
        elif kind == CHANGE:
            policy.apply(next(changes))
        elif kind == FETCH:
            _fetch(policy, recording.view.to_global(next(fetched)))
        else:
            nodes = waiting.pop(0)
            if kind == PLAN:
                tally.add(policy.plan(nodes), nodes)
            else:
                policy.skip(nodes)
    return tally.counts()


def _fetch(policy: Policy, nodes: IntArray) -> None:
    """Fetch exactly these global ids, whatever they were chosen by: a trace has no paths."""
    if len(nodes):
        ids = tuple(nodes.tolist())
        asked = FetchTargets(source="ids", row_budget=len(ids), ids=ids, while_idle=True)
        policy.apply(Change(fetch_targets=asked))
        policy.fetch(len(ids))


def joined(counts: Sequence[Counts]) -> Counts:
    """The batches of several replays, one after the other."""
    names = [each.name for each in fields(Counts)]
    return Counts(*(np.concatenate([getattr(each, name) for each in counts]) for name in names))


class Limit:
    """OPT and the cold bound of one recording; next uses are computed once for all capacities.

    OPT, the fewest rows that any buffer of a capacity can fetch, is Belady's (1966) with bypass and
    free admission: after each batch keep, of the buffer and the rows of the batch, those with the
    nearest next use. Rows with the same next use are worth the same, so it is enough to count them
    by next use: O(accesses + batches) per capacity.
    """

    def __init__(self, recording: Recording) -> None:
        batches = recording.happened
        chosen = np.zeros(recording.num_observed, dtype=bool)
        chosen[batches] = True
        widths = np.diff(recording.bounds)
        is_taken = np.repeat(chosen, widths)
        nodes = recording.nodes if is_taken.all() else recording.nodes[is_taken]
        self._widths = widths[batches]
        self._bounds = np.concatenate([[0], np.cumsum(self._widths)])
        self._is_halo = recording.is_halo[nodes]
        self._next_use, is_first = next_uses(nodes, self._bounds, recording.header.num_remote)
        self._first_uses = _sums(is_first, self._bounds)
        self._halo_rows = _sums(self._is_halo, self._bounds)

    def opt(self, capacity: int) -> Counts:
        """Rows per batch with the best buffer of `capacity` rows.

        Among rows with the same next use, halo rows are kept first. That gives the most halo hits
        possible with the fewest rows fetched.
        """
        hits, halo_hits = opt_hits(self._next_use, self._is_halo, self._bounds, capacity)
        return self._counts(hits, halo_hits)

    @property
    def cold(self) -> IntArray:
        """int64[batches]: rows that an infinite buffer would fetch: the first use of each node."""
        return self._first_uses

    def _counts(self, hits: IntArray, halo_hits: IntArray) -> Counts:
        return Counts(
            hits=hits,
            misses=self._widths - hits,
            targets=np.zeros_like(hits),
            halo_rows=self._halo_rows,
            halo_hits=halo_hits,
        )


def _sums(flags: NDArray[np.bool_], bounds: IntArray) -> IntArray:
    totals = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
    return np.asarray(np.diff(totals[bounds]))


@compiled
def next_uses(
    nodes: Nodes, bounds: IntArray, num_remote: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """For each access: the next batch that uses the node (the number of batches if there is none),
    and whether this is the first use of the node."""
    num_batches = bounds.shape[0] - 1
    following = np.full(num_remote, -1, dtype=np.int64)
    next_use = np.empty(nodes.shape[0], dtype=np.int32)
    is_first = np.zeros(nodes.shape[0], dtype=np.bool_)
    for batch in range(num_batches - 1, -1, -1):
        for i in range(bounds[batch], bounds[batch + 1]):
            later = following[nodes[i]]
            next_use[i] = num_batches if later < 0 else later
            following[nodes[i]] = batch
    for batch in range(num_batches):
        for i in range(bounds[batch], bounds[batch + 1]):
            if following[nodes[i]] >= 0:
                is_first[i] = True
                following[nodes[i]] = -1
    return next_use, is_first


@compiled
def opt_hits(
    next_use: NDArray[np.int32], is_halo: NDArray[np.bool_], bounds: IntArray, capacity: int
) -> tuple[IntArray, IntArray]:
    """Hits and halo hits per batch, int64[batches] each."""
    num_batches = bounds.shape[0] - 1
    kept = np.zeros((2, num_batches), dtype=np.int64)
    by_block = np.zeros(num_batches // _BLOCK + 1, dtype=np.int64)
    hits = np.zeros(num_batches, dtype=np.int64)
    halo_hits = np.zeros(num_batches, dtype=np.int64)
    num_kept = 0
    furthest = 0
    for batch in range(num_batches):
        halo_hits[batch] = kept[1, batch]
        hits[batch] = kept[0, batch] + kept[1, batch]
        by_block[batch // _BLOCK] -= hits[batch]
        num_kept -= hits[batch]
        kept[0, batch] = 0
        kept[1, batch] = 0
        for i in range(bounds[batch], bounds[batch + 1]):
            use = next_use[i]
            if use < num_batches:
                kept[1 if is_halo[i] else 0, use] += 1
                by_block[use // _BLOCK] += 1
                num_kept += 1
                furthest = max(furthest, use)
        while num_kept > capacity:
            if by_block[furthest // _BLOCK] == 0:
                furthest = furthest // _BLOCK * _BLOCK - 1
                continue
            for of_halo in range(2):
                dropped = min(kept[of_halo, furthest], num_kept - capacity)
                kept[of_halo, furthest] -= dropped
                by_block[furthest // _BLOCK] -= dropped
                num_kept -= dropped
            if num_kept > capacity:
                furthest -= 1
    return hits, halo_hits
