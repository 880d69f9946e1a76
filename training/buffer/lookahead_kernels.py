"""Compiled loops of the lookahead policy. They hold no Python lock while they run.

Slots stand in doubly linked lists, one per rank of worth, so that the least worth slot is found
and a slot is moved in O(1). Ranks, worst first:

    0 .. HEAT_RANKS - 1                next use unknown: by heat, an eighth of an octave each
    HEAT_RANKS .. HEAT_RANKS + ring    next use known: HEAT_RANKS + (batch % ring)

Node state is one record of 16 bytes per remote node (NODE); slots have `node`, `rank` and links.
"""

from __future__ import annotations

import math

import numba
import numpy as np

NODE = np.dtype(
    [("slot", np.int32), ("batch", np.int32), ("position", np.int32), ("heat", np.float32)]
)
"""Where a node's row is (NOWHERE: not buffered), the last observed batch that uses it and the
node's position there, and its decayed count of uses."""

SLOT = np.dtype(
    [("node", np.int64), ("rank", np.int32), ("before", np.int32), ("after", np.int32)], align=True
)

NOWHERE = -1
NEVER = -1
HEAT_RANKS = 352
_RANKS_PER_OCTAVE = 8.0
_LOWEST_OCTAVE = -20.0


@numba.njit(nogil=True, cache=True, inline="always")
def _heat_rank(heat):  # type: ignore[no-untyped-def]
    if heat <= 1e-6:
        return 0
    rank = int((math.log2(heat) - _LOWEST_OCTAVE) * _RANKS_PER_OCTAVE)
    return min(max(rank, 0), HEAT_RANKS - 1)


@numba.njit(nogil=True, cache=True, inline="always")
def _unlink(slots, heads, slot):  # type: ignore[no-untyped-def]
    before, after = slots[slot].before, slots[slot].after
    if before == NOWHERE:
        heads[slots[slot].rank] = after
    else:
        slots[before].after = after
    if after != NOWHERE:
        slots[after].before = before


@numba.njit(nogil=True, cache=True, inline="always")
def _link(slots, heads, slot, rank):  # type: ignore[no-untyped-def]
    head = heads[rank]
    slots[slot].rank = rank
    slots[slot].before = NOWHERE
    slots[slot].after = head
    if head != NOWHERE:
        slots[head].before = slot
    heads[rank] = slot


@numba.njit(nogil=True, cache=True)
def observe(remote, batch, oldest, weight, nodes, slots, heads, next_use):  # type: ignore[no-untyped-def]
    """Enter a batch into the window: link each node's last use to this one, and heat it.

    remote: int64[n]; batch: number of this batch; oldest: first batch not yet planned;
    weight: heat of one use now; nodes: NODE[num_remote]; slots: SLOT[capacity];
    heads: int32[ranks]; next_use: int32[ring, width], NEVER where no later use is known.
    """
    ring = next_use.shape[0]
    row = batch % ring
    for i in range(remote.shape[0]):
        node = remote[i]
        last = nodes[node].batch
        if last >= oldest:
            next_use[last % ring, nodes[node].position] = batch
        elif nodes[node].slot != NOWHERE:
            slot = nodes[node].slot
            _unlink(slots, heads, slot)
            _link(slots, heads, slot, HEAT_RANKS + row)
        nodes[node].batch = batch
        nodes[node].position = i
        nodes[node].heat += weight
        next_use[row, i] = NEVER


@numba.njit(nogil=True, cache=True)
def split(remote, batch, nodes, slots, heads, next_use, hits, hit_slots, misses, miss_ranks):  # type: ignore[no-untyped-def]
    """Tell hits from misses and rank both by their next use.

    Fills hits, hit_slots, misses and miss_ranks (all int64[n]); returns how many hits there are.
    """
    ring = next_use.shape[0]
    row = batch % ring
    num_hits = 0
    num_misses = 0
    for i in range(remote.shape[0]):
        node = remote[i]
        use = next_use[row, i]
        rank = _heat_rank(nodes[node].heat) if use == NEVER else HEAT_RANKS + use % ring
        slot = nodes[node].slot
        if slot != NOWHERE:
            _unlink(slots, heads, slot)
            _link(slots, heads, slot, rank)
            hits[num_hits] = i
            hit_slots[num_hits] = slot
            num_hits += 1
        else:
            misses[num_misses] = i
            miss_ranks[num_misses] = rank
            num_misses += 1
    return num_hits


@numba.njit(nogil=True, cache=True, inline="always")
def _order(rank, batch, ring):  # type: ignore[no-untyped-def]
    """Worth of a rank: heat ranks first, then known next uses, the furthest first."""
    if rank < HEAT_RANKS:
        return rank
    ahead = (rank - HEAT_RANKS - batch) % ring
    return HEAT_RANKS + ring - ahead


@numba.njit(nogil=True, cache=True, inline="always")
def _rank_of_order(order, batch, ring):  # type: ignore[no-untyped-def]
    if order < HEAT_RANKS:
        return order
    return HEAT_RANKS + (batch + HEAT_RANKS + ring - order) % ring


@numba.njit(nogil=True, cache=True)
def admit(remote, places, ranks, batch, threshold_heat, ring, nodes, slots, heads, free, num_free,
          admitted, admitted_slots):  # type: ignore[no-untyped-def]  # fmt: skip
    """Give newcomers the free slots, then the slots of rows worth less, best newcomers first.

    places: int64[m] positions in `remote`; ranks: int64[m] theirs; threshold_heat: rows at least
    this hot stay; free: int32[capacity], a stack of `num_free` free slots. Fills `admitted`
    (positions in `places`) and `admitted_slots`; returns (admitted, free slots left).
    """
    count = 0
    top = HEAT_RANKS + ring + 1
    starts = np.zeros(top + 2, dtype=np.int64)
    for j in range(places.shape[0]):
        starts[top - _order(ranks[j], batch, ring) + 1] += 1
    for k in range(top + 1):
        starts[k + 1] += starts[k]
    best_first = np.empty(places.shape[0], dtype=np.int64)
    for j in range(places.shape[0]):
        k = top - _order(ranks[j], batch, ring)
        best_first[starts[k]] = j
        starts[k] += 1
    worst = 0
    victim = NOWHERE
    for q in range(best_first.shape[0]):
        j = best_first[q]
        mine = _order(ranks[j], batch, ring)
        if num_free > 0:
            num_free -= 1
            slot = free[num_free]
        else:
            slot = NOWHERE
            while worst < mine and slot == NOWHERE:
                if victim == NOWHERE:
                    victim = heads[_rank_of_order(worst, batch, ring)]
                while victim != NOWHERE and nodes[slots[victim].node].heat >= threshold_heat:
                    victim = slots[victim].after
                if victim == NOWHERE:
                    worst += 1
                else:
                    slot = victim
                    victim = slots[victim].after
            if slot == NOWHERE:
                break
            _unlink(slots, heads, slot)
            nodes[slots[slot].node].slot = NOWHERE
        node = remote[places[j]]
        nodes[node].slot = slot
        slots[slot].node = node
        _link(slots, heads, slot, ranks[j])
        admitted[count] = j
        admitted_slots[count] = slot
        count += 1
    return count, num_free


@numba.njit(nogil=True, cache=True)
def ranks_of(remote, oldest, nodes, ring):  # type: ignore[no-untyped-def]
    """Rank of nodes from what is known of them now: their last observed use, else their heat."""
    ranks = np.empty(remote.shape[0], dtype=np.int64)
    for i in range(remote.shape[0]):
        last = nodes[remote[i]].batch
        known = last >= oldest
        ranks[i] = HEAT_RANKS + last % ring if known else _heat_rank(nodes[remote[i]].heat)
    return ranks


@numba.njit(nogil=True, cache=True)
def worst_slots(num_wanted, batch, ring, slots, heads, found):  # type: ignore[no-untyped-def]
    """Fill `found` with the `num_wanted` slots worth least; returns how many there are."""
    count = 0
    for order in range(HEAT_RANKS + ring + 1):
        slot = heads[_rank_of_order(order, batch, ring)]
        while slot != NOWHERE and count < num_wanted:
            found[count] = slot
            count += 1
            slot = slots[slot].after
        if count == num_wanted:
            break
    return count


@numba.njit(nogil=True, cache=True)
def relink(used, nodes, slots, heads, next_use, first_use):  # type: ignore[no-untyped-def]
    """Build all lists anew for the slots in `used`; `first_use[i]`: next known batch or NEVER."""
    ring = next_use.shape[0]
    for rank in range(heads.shape[0]):
        heads[rank] = NOWHERE
    for i in range(used.shape[0]):
        slot = used[i]
        use = first_use[i]
        if use == NEVER:
            _link(slots, heads, slot, _heat_rank(nodes[slots[slot].node].heat))
        else:
            _link(slots, heads, slot, HEAT_RANKS + use % ring)


@numba.njit(nogil=True, cache=True)
def cool(nodes, factor):  # type: ignore[no-untyped-def]
    """Multiply every heat, so that the growing weight of new uses stays within float32."""
    for i in range(nodes.shape[0]):
        nodes[i].heat *= factor
