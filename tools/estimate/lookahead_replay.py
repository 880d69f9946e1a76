"""The lookahead policy's decisions over a whole sampled trace, in one compiled loop.

training/buffer/policies/lookahead.py decides batch by batch, as it must; here the trace is known,
and so is every next use. What remains is the same choice: the newcomers worth most displace the
rows worth least, by next use inside the window and by heat beyond it. A test holds the two
together; they differ where rows are worth the same.

A row's worth changes only when a batch that uses it is seen ahead or planned. So worths and how
many rows have each are kept from batch to batch: beside O(nodes), a batch costs one pass over the
buffer at most, which compares integers that lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.tools.constants import LOOKAHEAD_GROWTH
from rudder.tools.estimate.past_uses import HEAT_GROWTH, Heat
from rudder.training.buffer.policies.lookahead_kernels import HEAT_RANKS, heat_rank
from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled
from rudder.training.settings import BufferSettings
from rudder.training.simulate.replay import next_uses

Int32s = NDArray[np.int32]
Places = NDArray[np.uint32]
"""Unsigned: an index that cannot be negative is looked up twice as fast by a compiled loop."""
Heats = NDArray[np.float32]


@dataclass(frozen=True)
class KnownUses:
    """Each access's future and past: what replays of one trace share, whatever the settings.

    nodes: uint32[accesses] node numbers of all batches, one after the other; bounds:
    int64[batches + 1]; next_use: int32[accesses], as of simulate.opt.next_uses; rank_after:
    uint32[accesses], what the node is worth by its heat with this use;
    hottest: uint32[n], the nodes used before the trace, hottest first; hottest_ranks:
    uint32[n], what they are worth by it; heat: of all nodes before.
    """

    nodes: Places
    bounds: IntArray
    next_use: Int32s
    rank_after: Places
    hottest: Places
    hottest_ranks: Places
    heat: Heat

    @classmethod
    def of(cls, nodes: IntArray, bounds: IntArray, *, heat: Heat) -> KnownUses:
        """nodes: numbers below len(heat.of_nodes). Not for more than 40,000 batches: heat only
        grows."""
        hottest, hottest_ranks = _hottest(heat.of_nodes)
        return cls(
            nodes=nodes.astype(np.uint32),
            bounds=bounds,
            next_use=next_uses(nodes, bounds, len(heat.of_nodes))[0],
            rank_after=_ranks(nodes, bounds, heat.of_nodes.copy()),
            hottest=hottest,
            hottest_ranks=hottest_ranks,
            heat=heat,
        )


@compiled
def _ranks(nodes: IntArray, bounds: IntArray, heat: Heats) -> Places:
    ranks = np.empty(nodes.shape[0], dtype=np.uint32)
    weight = 1.0
    for batch in range(bounds.shape[0] - 1):
        for i in range(bounds[batch], bounds[batch + 1]):
            heat[nodes[i]] += np.float32(weight)
            ranks[i] = heat_rank(heat[nodes[i]])
        weight *= HEAT_GROWTH
    return ranks


@compiled
def _hottest(heat: Heats) -> tuple[Places, Places]:
    """Nodes with any heat, the hottest first, and their ranks."""
    order = np.argsort(-heat)
    count = int((heat > 0).sum())
    nodes = np.empty(count, dtype=np.uint32)
    ranks = np.empty(count, dtype=np.uint32)
    for place in range(count):
        nodes[place] = order[place]
        ranks[place] = heat_rank(heat[order[place]])
    return nodes, ranks


def lookahead_misses(
    uses: KnownUses,
    *,
    num_planned: int,
    settings: BufferSettings,
    limits: IntArray | None = None,
) -> IntArray:
    """int64[num_planned]: rows that each of the first batches misses.

    The buffer begins with the hottest rows of the past, empty where there is none; batches from
    `num_planned` on are only seen ahead. limits: int64[num_planned], the capacity that each batch
    finds, where that is less than the settings'; it may rise, never fall.
    """
    heat = uses.heat
    capacity = min(settings.capacity_rows, len(heat.of_nodes))
    if limits is None:
        limits = np.full(num_planned, capacity)
    return _replay(
        uses.nodes, uses.bounds, uses.next_use, uses.rank_after, uses.hottest,
        uses.hottest_ranks, heat.of_nodes, heat.total, num_planned, settings.lookahead_batches,
        settings.eviction_threshold, capacity, np.minimum(limits, capacity),
    )  # fmt: skip


@compiled
def _replay(
    nodes: Places, bounds: IntArray, next_use: Int32s, rank_after: Places,
    hottest: Places, hottest_ranks: Places, heat_before: Heats, total_weight: float,
    num_planned: int, lookahead: int, threshold: float, capacity: int, limits: IntArray,
) -> IntArray:  # fmt: skip
    """A node that is not in the buffer has a place of its own behind the slots: few branches.

    worths: by place, told of the slots only: a heat rank, or HEAT_RANKS and how many batches
    before the trace's end the next use comes, once that is seen; counts: by worth, rows in the
    buffer [1], and missed ones of the batch [0].
    """
    num_batches = bounds.shape[0] - 1
    heat = heat_before.copy() if threshold < 1 else heat_before
    place_of = np.arange(capacity, capacity + heat.shape[0]).astype(np.uint32)
    owners = np.empty(capacity, dtype=np.uint32)
    worths = np.zeros(capacity + heat.shape[0], dtype=np.uint32)
    counts = np.zeros((2, HEAT_RANKS + num_batches + 1), dtype=np.int32)
    num_used = min(limits[0], hottest.shape[0])
    for slot in range(num_used):
        owners[slot] = hottest[slot]
        place_of[hottest[slot]] = slot
        worths[slot] = hottest_ranks[slot]
        counts[1, worths[slot]] += 1
    misses = np.zeros(num_planned, dtype=np.int64)
    missed = np.empty(max(np.diff(bounds).max(), 1) + 1, dtype=np.uint32)
    missed_worths = np.empty(missed.shape[0], dtype=np.uint32)
    weight, observed = 1.0, 0
    for batch in range(num_planned):
        while observed < min(batch + min(lookahead, LOOKAHEAD_GROWTH * batch) + 1, num_batches):
            _observe(
                nodes[bounds[observed] : bounds[observed + 1]],
                HEAT_RANKS + num_batches - observed, capacity, place_of, worths, counts[1],
            )  # fmt: skip
            if threshold < 1:
                for i in range(bounds[observed], bounds[observed + 1]):
                    heat[nodes[i]] += np.float32(weight)
            total_weight += weight
            weight *= HEAT_GROWTH
            observed += 1
        counts[0] = 0
        counts[1, HEAT_RANKS + num_batches - batch] = 0
        count = 0
        line = slice(bounds[batch], bounds[batch + 1])
        count = _look_up(
            nodes[line], next_use[line], rank_after[line], observed, HEAT_RANKS + num_batches,
            capacity, place_of, worths, counts[0], counts[1], missed, missed_worths,
        )  # fmt: skip
        misses[batch] = count
        kept = threshold * total_weight if threshold < 1 else np.inf
        num_used = _admit(
            missed[:count], missed_worths[:count], np.float32(kept), heat, owners,
            worths, counts, place_of, num_used, limits[batch],
        )  # fmt: skip
    return misses


@compiled
def _observe(
    nodes: Places, worth: int, capacity: int, place_of: Places, worths: Places, counts: Int32s
) -> None:
    """Nodes whose next use was not seen before are worth so much now."""
    num_new = 0
    for node in nodes:
        place = place_of[node]
        before = worths[place]
        is_new = int(before < worth) & int(place < capacity)
        worths[place] = max(before, worth)
        counts[before] -= is_new
        num_new += is_new
    counts[worth] += num_new


@compiled
def _look_up(
    nodes: Places, next_use: Int32s, rank_after: Places, observed: int, end: int, capacity: int,
    place_of: Places, worths: Places, missed_counts: Int32s, counts: Int32s, missed: Places,
    missed_worths: Places,
) -> int:  # fmt: skip
    """Take a batch in: what its nodes are worth from now on, and which of them are not there."""
    count = 0
    for i in range(nodes.shape[0]):
        worth = np.uint32(end - next_use[i]) if next_use[i] < observed else rank_after[i]
        place = place_of[nodes[i]]
        is_hit = int(place < capacity)
        worths[place] = worth
        counts[worth] += is_hit
        missed_counts[worth] += 1 - is_hit
        missed[count] = nodes[i]
        missed_worths[count] = worth
        count += 1 - is_hit
    return count


@compiled
def _admit(
    missed: Places, missed_worths: Places, kept_heat: np.float32, heat: Heats, owners: Places,
    worths: Places, counts: Int32s, place_of: Places, num_used: int, limit: int,
) -> int:  # fmt: skip
    """Give free slots, then those of rows worth less, to the missed nodes worth most.

    Slots from `limit` on are not free yet; rows of `kept_heat` and more stay. Returns the slots
    in use.
    """
    capacity = owners.shape[0]
    victims = counts[1]
    if kept_heat != np.inf:
        victims = _counts_that_may_go(worths[:num_used], owners, heat, kept_heat, counts.shape[1])
    free = min(missed.shape[0], limit - num_used)
    taken, low, ties, high, high_ties = _matched(counts[0], victims, free)
    freed = np.empty(taken, dtype=np.uint32)
    count = 0
    for slot in range(num_used if taken else 0):
        worth = worths[slot]
        if worth > low or not _may_go(worth, heat[owners[slot]], kept_heat):
            continue
        if worth == low:
            if ties == 0:
                continue
            ties -= 1
        place_of[owners[slot]] = capacity + owners[slot]
        counts[1, worth] -= 1
        freed[count] = slot
        count += 1
        if count == taken:
            break
    given = 0
    for i in range(missed.shape[0]):
        worth = missed_worths[i]
        if worth < high or (worth == high and high_ties == 0):
            continue
        if worth == high:
            high_ties -= 1
        slot = freed[given] if given < count else num_used + given - count
        owners[slot] = missed[i]
        place_of[missed[i]] = slot
        worths[slot] = worth
        counts[1, worth] += 1
        given += 1
    return num_used + given - count


@compiled
def _counts_that_may_go(
    worths: Places, owners: Places, heat: Heats, kept_heat: np.float32, size: int
) -> Int32s:
    counts = np.zeros(size, dtype=np.int32)
    for slot in range(worths.shape[0]):
        if _may_go(worths[slot], heat[owners[slot]], kept_heat):
            counts[worths[slot]] += 1
    return counts


@compiled
def _may_go(worth: int, heat: np.float32, kept_heat: np.float32) -> bool:
    if kept_heat == np.inf:
        return True
    return worth < heat_rank(kept_heat) if worth < HEAT_RANKS else bool(heat < kept_heat)


@compiled
def _matched(newcomers: Int32s, victims: Int32s, free: int) -> tuple[int, int, int, int, int]:
    """Match the best newcomers with free slots, then with the worst victims while these are worse.

    newcomers, victims: int32, how many there are by worth. Returns how many victims go, the worth
    of the best of them and how many of that; the worth of the worst newcomer that gets in, and
    how many of that.
    """
    taken, low, ties = 0, 0, 0
    high, high_ties = newcomers.shape[0], 0
    worst, left = 0, victims[0]
    for worth in range(newcomers.shape[0] - 1, -1, -1):
        for _ in range(newcomers[worth]):
            if free > 0:
                free -= 1
            else:
                while left == 0 and worst < worth:
                    worst += 1
                    left = victims[worst]
                if worst >= worth:
                    return taken, low, ties, high, high_ties
                left -= 1
                taken += 1
                ties = ties + 1 if worst == low and taken > 1 else 1
                low = worst
            high_ties = high_ties + 1 if worth == high else 1
            high = worth
    return taken, low, ties, high, high_ties
