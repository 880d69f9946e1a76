"""The lookahead policy's decisions over a whole sampled trace, in one compiled loop.

training/buffer/lookahead.py decides batch by batch, as it must; here the trace is known, and so is
every next use. What remains is the same choice: the newcomers worth most displace the rows worth
least, by next use inside the window and by heat beyond it. A test holds the two together; they
differ where rows are worth the same. Cost: O(nodes + batches * capacity).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.tools.past_uses import HEAT_GROWTH, Heat
from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled, inlined
from rudder.training.settings import BufferSettings

Int32s = NDArray[np.int32]
Heats = NDArray[np.float32]
_NOBODY = -1
_HEAT_RANKS = 704
_LOWEST_BITS = (127 - 20) << 4
"""The sixteenths of an octave of 2 ** -20, as a float32 writes them."""


def lookahead_misses(
    nodes: IntArray,
    bounds: IntArray,
    next_use: Int32s,
    *,
    heat: Heat,
    num_planned: int,
    settings: BufferSettings,
) -> IntArray:
    """int64[num_planned]: rows that each of the first batches misses.

    The buffer begins with the hottest rows of the past, empty where there is none.

    nodes: int64 node numbers of all batches, one after the other; bounds: int64[batches + 1];
    next_use: int32, as of simulate.opt.next_uses; heat: of all nodes before; batches
    from `num_planned` on are only seen ahead. Not for more than 40,000 batches: heat only grows.
    """
    return _replay(
        nodes, bounds, next_use, num_planned, settings.lookahead_batches,
        settings.eviction_threshold, min(settings.capacity_rows, len(heat.of_nodes)),
        heat.of_nodes.copy(), heat.total,
    )  # fmt: skip


@inlined
def _heat_rank(heat: np.float32) -> int:
    """Worth beyond the window: heat by sixteenths of an octave, as ranks.py of the policy."""
    bits = int(np.float32(heat).view(np.int32)) >> 19
    return min(max(bits - _LOWEST_BITS, 0), _HEAT_RANKS - 1)


@compiled
def _replay(
    nodes: IntArray, bounds: IntArray, next_use: Int32s, num_planned: int, lookahead: int,
    threshold: float, capacity: int, heat: Heats, total_weight: float,
) -> IntArray:  # fmt: skip
    num_batches = bounds.shape[0] - 1
    owners = np.full(capacity, _NOBODY, dtype=np.int64)
    slot_of = np.full(heat.shape[0], _NOBODY, dtype=np.int64)
    rank = np.array([_heat_rank(each) for each in heat])
    uses = np.full(heat.shape[0], num_batches, dtype=np.int64)
    misses = np.zeros(num_planned, dtype=np.int64)
    missed = np.empty(max(np.diff(bounds).max(), 1), dtype=np.int64)
    num_used = _begin(nodes, bounds, heat, uses, owners, slot_of)
    weight, observed = 1.0, 0
    for batch in range(num_planned):
        while observed < min(batch + min(lookahead, batch) + 1, num_batches):
            for i in range(bounds[observed], bounds[observed + 1]):
                heat[nodes[i]] += np.float32(weight)
                rank[nodes[i]] = _heat_rank(heat[nodes[i]])
            total_weight += weight
            weight *= HEAT_GROWTH
            observed += 1
        count = 0
        for i in range(bounds[batch], bounds[batch + 1]):
            uses[nodes[i]] = next_use[i]
            if slot_of[nodes[i]] == _NOBODY:
                missed[count] = nodes[i]
                count += 1
        misses[batch] = count
        kept = threshold * total_weight if threshold < 1 else np.inf
        num_used = _admit(
            missed[:count], observed, min(lookahead, num_batches) + 2, np.float32(kept), heat,
            rank, uses, owners, slot_of, num_used,
        )  # fmt: skip
    return misses


@compiled
def _begin(
    nodes: IntArray, bounds: IntArray, heat: Heats, uses: IntArray, owners: IntArray,
    slot_of: IntArray,
) -> int:  # fmt: skip
    """Fill the buffer with the hottest nodes, and note first uses; returns the slots in use."""
    for batch in range(bounds.shape[0] - 2, -1, -1):
        for i in range(bounds[batch], bounds[batch + 1]):
            uses[nodes[i]] = batch
    num_used = 0
    for node in np.argsort(-heat)[: owners.shape[0]]:
        if heat[node] > 0:
            owners[num_used] = node
            slot_of[node] = num_used
            num_used += 1
    return num_used


@compiled
def _admit(
    missed: IntArray, observed: int, room: int, kept_heat: np.float32, heat: Heats,
    rank: IntArray, uses: IntArray, owners: IntArray, slot_of: IntArray, num_used: int,
) -> int:  # fmt: skip
    """Give free slots, then those of rows worth less, to the missed nodes worth most.

    Worth: heat ranks, then known next uses (before batch `observed`, at most `room` of them), the
    nearest most. Rows of `kept_heat` and more stay. Returns the slots in use.
    """
    by_worth = np.zeros((2, _HEAT_RANKS + room), dtype=np.int64)
    first_kept = _HEAT_RANKS if kept_heat == np.inf else _heat_rank(kept_heat)
    for node in missed:
        by_worth[0, _worth(node, observed, rank, uses)] += 1
    for slot in range(num_used):
        worth = _worth(owners[slot], observed, rank, uses)
        if _may_go(owners[slot], worth, first_kept, kept_heat, heat):
            by_worth[1, worth] += 1
    free = min(missed.shape[0], owners.shape[0] - num_used)
    taken, low, ties, high, high_ties = _matched(by_worth[0], by_worth[1], free)
    freed = np.empty(taken, dtype=np.int64)
    count = 0
    for slot in range(num_used):
        if count == taken:
            break
        node = owners[slot]
        worth = _worth(node, observed, rank, uses)
        if worth > low or not _may_go(node, worth, first_kept, kept_heat, heat):
            continue
        if worth == low:
            if ties == 0:
                continue
            ties -= 1
        slot_of[node] = _NOBODY
        freed[count] = slot
        count += 1
    given = 0
    for node in missed:
        worth = _worth(node, observed, rank, uses)
        if worth < high or (worth == high and high_ties == 0):
            continue
        if worth == high:
            high_ties -= 1
        slot = freed[given] if given < count else num_used + given - count
        owners[slot] = node
        slot_of[node] = slot
        given += 1
    return num_used + given - count


@compiled
def _worth(node: int, observed: int, rank: IntArray, uses: IntArray) -> int:
    if uses[node] < observed:
        return _HEAT_RANKS + observed - 1 - int(uses[node])
    return int(rank[node])


@compiled
def _may_go(node: int, worth: int, first_kept: int, kept_heat: np.float32, heat: Heats) -> bool:
    return worth < first_kept if worth < _HEAT_RANKS else heat[node] < kept_heat


@compiled
def _matched(newcomers: IntArray, victims: IntArray, free: int) -> tuple[int, int, int, int, int]:
    """Match the best newcomers with free slots, then with the worst victims while these are worse.

    newcomers, victims: int64, how many there are by worth. Returns how many victims go, the worth
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
