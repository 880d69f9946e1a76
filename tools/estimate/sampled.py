"""Replaying the sampled accesses of the last batches through the run's own policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rudder.tools.constants import LOOKAHEAD_GROWTH, MAX_BATCHES
from rudder.tools.estimate.lookahead_replay import KnownUses, lookahead_misses
from rudder.tools.estimate.past_uses import Heat, PastUses
from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.registry import PolicyOptions
from rudder.training.metrics import Window
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.simulate.replay import opt_hits
from rudder.training.simulate.study import make_simulated
from rudder.training.workload import Workload

_MAX_SPREAD = 16
"""Ids up to so many times their count are numbered by a table of all: ten times as fast."""


def distinct(nodes: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct ids in order, and for each of `nodes` its number among them, int64 both.

    nodes: int64[n], 0 or more, at least one.
    """
    size = int(nodes.max()) + 1
    if size <= _MAX_SPREAD * len(nodes):
        is_there = np.zeros(size, dtype=np.bool_)
        is_there[nodes] = True
        numbers = np.cumsum(is_there, dtype=np.int64) - 1
        return np.flatnonzero(is_there), numbers[nodes]
    found, numbers = np.unique(nodes, return_inverse=True)
    return found, numbers.astype(np.int64)


_NO_CHANGE = Change()


@dataclass(frozen=True)
class SampledBatch:
    """nodes: int64 sampled remote numbers of the batch of one step, in the order of their use."""

    step: int
    nodes: IntArray


@dataclass(frozen=True)
class SampledTrace:
    """Batches of the run in their order, their nodes numbered anew from 0. Batches may be missing
    between them, of a time in which nobody asked for accesses.

    nodes: int64, of all batches one after the other; bounds: int64[batches + 1]; num_batches: of
    these are real; behind them some come again, so that the last real ones have a future to look
    ahead at; widths, steps: int64[num_batches], nodes of each real batch, and its step; heat: uses
    before the first.
    """

    nodes: IntArray
    bounds: IntArray
    num_batches: int
    num_nodes: int
    widths: IntArray
    steps: IntArray
    rate: float
    heat: Heat

    @classmethod
    def of(
        cls, batches: Sequence[SampledBatch], *, rate: float, past: PastUses | None = None
    ) -> SampledTrace:
        """The batches, and a middle part of them again; past: the uses before."""
        count = len(batches)
        ahead = min(count // 2, MAX_BATCHES)
        again = (count - ahead) // 2
        widths = np.array([len(each.nodes) for each in batches], dtype=np.int64)
        lengths = np.concatenate([[0], widths, widths[again : again + ahead]])
        bounds = np.cumsum(lengths, dtype=np.int64)
        found, nodes = distinct(np.concatenate([each.nodes for each in batches]))
        return cls(
            nodes=np.concatenate([nodes, nodes[bounds[again] : bounds[again + ahead]]]),
            bounds=bounds,
            num_batches=count,
            num_nodes=len(found),
            widths=widths,
            steps=np.array([each.step for each in batches], dtype=np.int64),
            rate=rate,
            heat=(past or PastUses()).heat(found),
        )

    @property
    def first_step(self) -> int:
        """Of the first batch."""
        return int(self.steps[0])

    def of_window(self, window: Window) -> slice | None:
        """The real batches of a window; None where they are not all there."""
        begin = int(np.searchsorted(self.steps, window.first_step))
        end = begin + window.num_steps
        if not window.num_steps or end > self.num_batches:
            return None
        is_whole = self.steps[begin] == window.first_step and (
            self.steps[end - 1] == window.first_step + window.num_steps - 1
        )
        return slice(begin, end) if is_whole else None

    @property
    def real_nodes(self) -> IntArray:
        """int64: of all real batches."""
        return self.nodes[: self.bounds[self.num_batches]]

    @cached_property
    def uses(self) -> IntArray:
        """int64[num_nodes]: in how many real batches each node is."""
        return np.bincount(self.real_nodes, minlength=self.num_nodes)

    def scaled(self, rows: int) -> int:
        """Rows of the sample for so many rows of all."""
        return min(max(round(self.rate * rows), 1), self.num_nodes) if rows else 0

    def opt(self, capacity_rows: int) -> IntArray:
        """int64[num_batches]: rows that each batch fetches with the best buffer (Belady)."""
        is_halo = np.zeros(len(self.nodes), dtype=np.bool_)
        hits, _ = opt_hits(self.known.next_use, is_halo, self.bounds, self.scaled(capacity_rows))
        return self.widths - hits[: self.num_batches]

    def rows(
        self, settings: BufferSettings, workload: Workload, *, change: Change = _NO_CHANGE, at: int
    ) -> IntArray:
        """int64[num_batches]: sampled rows that each batch fetches, from an empty buffer on.

        settings: in force from the first batch on; the one-off parts of `change` (fetch targets,
        replace now) come before batch `at`.
        """
        small = settings.model_copy(update={"capacity_rows": self.scaled(settings.capacity_rows)})
        once = self._one_off(change, capacity=small.capacity_rows)
        if workload.policy == "lookahead" and once.is_empty:
            return lookahead_misses(self.known, num_planned=self.num_batches, settings=small)
        return self._replay(self._policy(small, workload), once, at)

    @cached_property
    def known(self) -> KnownUses:
        """What replays share, whatever the settings."""
        return KnownUses.of(self.nodes, self.bounds, heat=self.heat)

    def _one_off(self, change: Change, *, capacity: int) -> Change:
        """Targets of any source stand as those observed most, for the graph is not known here."""
        targets = change.fetch_targets
        if targets is not None:
            budget = max(self.scaled(targets.row_budget), 1)
            targets = FetchTargets(source="observed", row_budget=budget)
        if not capacity:
            return Change()
        return Change(fetch_targets=targets, replace_now=change.replace_now)

    def _policy(self, settings: BufferSettings, workload: Workload) -> Policy:
        view = PartitionView(
            part=0,
            starts=np.array([0, 1, 1 + self.num_nodes], dtype=np.int64),
            indptr=np.zeros(2, dtype=np.int64),
            indices=np.empty(0, dtype=np.int64),
            halo=np.empty(0, dtype=np.int64),
        )
        counted = min(workload.batches_per_epoch, max(self.num_batches // 2, 1))
        options = PolicyOptions(batch_size=workload.batch_size, epoch_batches=counted)
        return make_simulated(workload.policy, view, settings, options)

    def _replay(self, policy: Policy, once: Change, at: int) -> IntArray:
        """As training/simulate/replay.py does it, over the real batches."""
        lines = np.split(self.nodes, self.bounds[1:-1])
        rows = np.zeros(self.num_batches, dtype=np.int64)
        observed = 0
        for number in range(self.num_batches):
            if number == at and not once.is_empty and policy.refusal(once) is None:
                policy.apply(once)
            ahead = min(policy.settings.lookahead_batches, LOOKAHEAD_GROWTH * number)
            while observed < min(number + ahead + 1, len(lines)):
                policy.observe(lines[observed])
                observed += 1
            plan = policy.plan(lines[number])
            rows[number] = len(plan.misses) + len(plan.targets)
        return rows
