"""Estimates a buffer that grows, from what it holds now to the end of its trial.

The new slots must be filled first, and the batches that fill them use nodes that were not used
before. A full buffer replayed over the last batches would tell neither: in the first epoch most of
what they miss is new, and a buffer for nearly all nodes takes hundreds of batches to fill. So the
growth is replayed over batches to come, drawn from what is known of each node. Where hot nodes
become others, no batch to come is like those: the more the longer the run, the growth is replayed
over the last batches, as if the buffer had grown before them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rudder.tools.constants import (
    APPLIED_AFTER_STEPS,
    CHANGED_NODES_SHARE,
    CHANGES_AT,
    FORETOLD_STEPS,
    GROWTH_ERROR,
    JUDGED_STEPS,
    MAX_BATCHES,
    MAX_SETTLING_STEPS,
    MOST_NODES,
    SETTLING_SLACK,
    WARM_BATCHES,
)
from rudder.tools.estimate.calibration import Share
from rudder.tools.estimate.lookahead_replay import KnownUses, lookahead_misses
from rudder.tools.estimate.past_uses import HEAT_GROWTH, Heat
from rudder.tools.estimate.popularity import Popularity, SeenUses
from rudder.tools.estimate.sampled import SampledTrace
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings


def settling_steps(grown_rows: int, *, rows_per_step: float) -> int:
    """Steps after a growth by so many rows: every row fetched may fill a slot; 0 without growth."""
    if grown_rows <= 0 or rows_per_step <= 0:
        return 0
    return int(min(SETTLING_SLACK * grown_rows / rows_per_step, MAX_SETTLING_STEPS))


def without_growth(settled: Sequence[Window], windows: Sequence[Window]) -> tuple[Window, ...]:
    """Of settled windows under the settings in force those from which a growth cannot be seen.

    windows: all that are known, oldest first; the last ones under the settings in force.
    """
    if not settled:
        return ()
    now = settled[-1].settings
    before = next((each for each in reversed(windows) if each.settings != now), None)
    if before is None:
        return tuple(settled)
    rows = before.rows.rows_fetched.of_batches / max(before.num_steps, 1)
    grown = now.capacity_rows - before.settings.capacity_rows
    begun = before.first_step + before.num_steps
    first = begun + settling_steps(grown, rows_per_step=rows)
    return tuple(each for each in settled if each.first_step >= first)


def held_rows(windows: Sequence[Window], *, steps: IntArray) -> IntArray:
    """int64[batches]: capacity that the batch of each step found, never more than a later one did:
    what a buffer lost as it shrank is not there any more.

    windows: oldest first; batches that none of them tells of had what the nearest one did.
    """
    starts, rows = [int(steps[0])], [windows[0].settings.capacity_rows]
    for window in windows:
        capacity = window.settings.capacity_rows
        if capacity != rows[-1]:
            since = window.settings_since
            guess = window.first_step + round(CHANGES_AT * window.num_steps)
            starts.append(guess if since is None else since)
            rows.append(capacity)
    found = np.array(rows, dtype=np.int64)[np.searchsorted(starts, steps, side="right") - 1]
    return np.minimum.accumulate(found[::-1])[::-1]


@dataclass(frozen=True)
class Growth:
    """uses: of the last batches as they were, and of drawn ones; held_rows: int64, what the buffer
    could hold of the sample in each of the former; widths: int64, sampled nodes of each of the
    latter."""

    trace: SampledTrace
    uses: KnownUses
    held_rows: IntArray
    widths: IntArray

    @classmethod
    def of(
        cls, trace: SampledTrace, *, num_nodes: int, held_rows: IntArray, epoch_steps: int
    ) -> Growth:
        """num_nodes: that the sample would hold if all of them were used; held_rows:
        int64[num_batches], the buffer's capacity in each batch, in rows of all nodes; epoch_steps:
        of an epoch, after which all seeds come again.

        The same trace leads to the same batches.
        """
        random = np.random.default_rng(trace.first_step + trace.num_batches)
        num_nodes = min(max(num_nodes, trace.num_nodes), MOST_NODES * trace.num_nodes)
        end = trace.bounds[trace.num_batches]
        seen = SeenUses.of(
            trace.real_nodes,
            steps=trace.steps,
            widths=trace.widths,
            num_nodes=num_nodes,
            epoch_steps=epoch_steps,
        )
        popularity = Popularity.of(seen, random=random)
        count = MAX_SETTLING_STEPS + FORETOLD_STEPS + WARM_BATCHES
        nodes, bounds = popularity.batches_to_come(count, random=random)
        num_warm = min(WARM_BATCHES, trace.num_batches)
        first = trace.num_batches - num_warm
        warm = trace.nodes[trace.bounds[first] : end]
        warm_bounds = trace.bounds[first : trace.num_batches] - trace.bounds[first]
        uses = KnownUses.of(
            np.concatenate([warm, nodes]),
            np.concatenate([warm_bounds, bounds + len(warm)]),
            heat=_heat_after(trace, first, num_nodes),
        )
        held = np.round(trace.rate * held_rows[first:]).astype(np.int64)
        return cls(trace, uses, held, np.diff(bounds)[: count - WARM_BATCHES])

    def share(
        self, settings: BufferSettings, *, settling_steps: int, filled_rows: int = 0
    ) -> Share:
        """What is fetched while the trial is judged; settings: after the change, with the capacity
        in sampled rows; filled_rows: sampled rows of those used most that come with the change."""
        last = settling_steps + JUDGED_STEPS
        drawn, widths = self._drawn_rows(
            settings, applied_after=APPLIED_AFTER_STEPS, steps=last, filled_rows=filled_rows
        )
        found = Share.of(drawn[settling_steps:], widths[settling_steps:])
        rows, widths = self._seen_rows(settings, settling_steps, filled_rows)
        if len(rows):
            seen = Share.of(rows[-JUDGED_STEPS:], widths[-JUDGED_STEPS:])
            found = found.mixed(seen, weight=self._weight_of_seen)
        return Share(found.mid, math.hypot(found.error, GROWTH_ERROR * found.mid))

    def course(
        self,
        settings: BufferSettings,
        *,
        settling_steps: int,
        applied_after: int,
        filled_rows: int = 0,
    ) -> NDArray[np.float64]:
        """float64[steps]: the share of each step from the change on, till after its trial; as
        `share`, for a change that comes so many steps after the last batch."""
        last = settling_steps + FORETOLD_STEPS
        drawn, widths = self._drawn_rows(
            settings, applied_after=applied_after, steps=last, filled_rows=filled_rows
        )
        course: NDArray[np.float64] = drawn / widths.mean()
        rows, widths = self._seen_rows(settings, settling_steps, filled_rows)
        if len(rows):
            weight, seen = self._weight_of_seen, rows / widths.mean()
            course[: len(seen)] = (1 - weight) * course[: len(seen)] + weight * seen
        return course

    @cached_property
    def _weight_of_seen(self) -> float:
        if not _drifts(self.trace):
            return 0.0
        weight = (self.trace.num_batches - WARM_BATCHES) / (MAX_BATCHES - WARM_BATCHES)
        return min(max(weight, 0.0), 1.0)

    def _drawn_rows(
        self, settings: BufferSettings, *, applied_after: int, steps: int, filled_rows: int
    ) -> tuple[IntArray, IntArray]:
        """int64[steps] each: what drawn batches fetch, and use, of the sample, from the change
        on; less steps where so many are not drawn."""
        warm = len(self.held_rows)
        begun = warm + applied_after
        end = min(begun + steps, warm + len(self.widths))
        limits = np.full(end, settings.capacity_rows)
        limits[:begun] = self.held_rows[-1]
        limits[:warm] = self.held_rows
        misses = _misses(
            self.uses, settings=settings, limits=limits, filled_at=begun, filled_rows=filled_rows
        )
        return misses[begun:], self.widths[applied_after : end - warm]

    def _seen_rows(
        self, settings: BufferSettings, settling_steps: int, filled_rows: int
    ) -> tuple[IntArray, IntArray]:
        """int64[steps] each: what the last batches fetch, and use, of the sample, had the buffer
        grown before them; empty where they are too few, or tell nothing that is not drawn."""
        trace = self.trace
        at = trace.num_batches - settling_steps - JUDGED_STEPS
        if at < 0 or not self._weight_of_seen:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        limits = np.full(trace.num_batches, settings.capacity_rows)
        limits[:at] = self.held_rows[-1]
        misses = _misses(
            trace.known, settings=settings, limits=limits, filled_at=at, filled_rows=filled_rows
        )
        return misses[at:], trace.widths[at:]


def _misses(
    uses: KnownUses,
    *,
    settings: BufferSettings,
    limits: IntArray,
    filled_at: int,
    filled_rows: int,
) -> IntArray:
    """int64[len(limits)]: rows that each of the first batches misses; before batch `filled_at` the
    rows used most so far come into the buffer, as if a batch in between had used them."""
    end = len(limits)
    if not filled_rows:
        return lookahead_misses(uses, num_planned=end, settings=settings, limits=limits)
    place = int(uses.bounds[filled_at])
    used = uses.heat.of_nodes + np.bincount(uses.nodes[:place], minlength=len(uses.heat.of_nodes))
    hottest = np.argsort(-used, kind="stable")[:filled_rows]
    hottest = hottest[used[hottest] > 0]
    bounds = np.insert(uses.bounds, filled_at, place)
    bounds[filled_at + 1 :] += len(hottest)
    nodes = np.insert(uses.nodes.astype(np.int64), place, hottest)
    known = KnownUses.of(nodes, bounds, heat=uses.heat)
    limits = np.insert(limits, filled_at, limits[filled_at])
    misses = lookahead_misses(known, num_planned=end + 1, settings=settings, limits=limits)
    return np.delete(misses, filled_at)


def _drifts(trace: SampledTrace) -> bool:
    """Whether the first and the last quarter of the batches have fewer uses in common than the last
    two do."""
    bounds = trace.bounds[trace.num_batches * np.arange(5) // 4]
    first, _, third, last = (
        np.bincount(trace.nodes[begin:end], minlength=trace.num_nodes)
        for begin, end in itertools.pairwise(bounds)
    )
    lately = float(third @ last) / max(float(third.sum()), 1.0)
    in_all = float(first @ last) / max(float(first.sum()), 1.0)
    return in_all < (1 - CHANGED_NODES_SHARE) * lately


def _heat_after(trace: SampledTrace, batch: int, num_nodes: int) -> Heat:
    """Of all uses before a batch of the trace."""
    weights = HEAT_GROWTH ** np.arange(batch)
    uses = trace.nodes[: trace.bounds[batch]]
    sums = np.zeros(num_nodes)
    sums[: trace.num_nodes] = trace.heat.of_nodes
    sums += np.bincount(uses, np.repeat(weights, trace.widths[:batch]), minlength=num_nodes)
    unit = HEAT_GROWTH**batch
    total = (trace.heat.total + float(weights.sum())) / unit
    return Heat((sums / unit).astype(np.float32), total)
