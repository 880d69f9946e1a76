"""Compiled loops of the lookahead policy.

Slots stand in doubly linked lists, one per rank of worth, so that the least worth slot is found
and a slot is moved in O(1). Ranks, worst first:

    0 .. HEAT_RANKS - 1        next use unknown: by heat, an eighth of an octave each
    HEAT_RANKS + batch % ring  next use known
    HEAT_RANKS + ring + ...    the same, for rows that were found too hot to be displaced

`ring` is more than the batches in the window, so that their ranks differ. The window itself is a
ring, too, of nodes: see window.py for `users`, `next_use` and `tail`.
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.prefetch import prefetch
from rudder.training.buffer.ranks import (
    HEAT_RANKS,
    best_first,
    heat_rank,
    order_of,
    rank_of_order,
)
from rudder.training.buffer.records import Int32s, Int64s, Records
from rudder.training.compiled import compiled, inlined

_AHEAD = 8
NOWHERE = -1
NEVER = -1


@inlined
def _unlink(slots: Records, heads: Int32s, slot: int) -> None:
    before, after = slots[slot].before, slots[slot].after
    if before == NOWHERE:
        heads[slots[slot].rank] = after
    else:
        slots[before].after = after
    if after != NOWHERE:
        slots[after].before = before


@inlined
def _link(slots: Records, heads: Int32s, slot: int, rank: int) -> None:
    head = heads[rank]
    slots[slot].rank = rank
    slots[slot].before = NOWHERE
    slots[slot].after = head
    if head != NOWHERE:
        slots[head].before = slot
    heads[rank] = slot


@inlined
def _wrapped(place: int, size: int) -> int:
    return place - size if place >= size else place


@inlined
def _is_there(node: int, place: int, tail: int, length: int, users: Int64s) -> bool:
    """Whether `place` is one of the `length` places from `tail` on, and the node's."""
    if place == NOWHERE or users[place] != node:
        return False
    distance = place - tail
    return (distance if distance >= 0 else distance + users.shape[0]) < length


@compiled
def observe(
    remote: Int64s, batch: int, weight: np.float32, ring: int, nodes: Records, slots: Records,
    heads: Int32s, tail: int, length: int, users: Int64s, next_use: Int32s,
) -> None:  # fmt: skip
    """Enter a batch into the window: link each node's last use to this one, and heat it.

    remote: int64[n]; batch: number of this batch; weight: heat of one use now;
    nodes: NODE[num_remote]; slots: SLOT[capacity]; heads: int32[HEAT_RANKS + 2 ring];
    length: places of the window in use before, with room for n more.
    """
    size, last_one = users.shape[0], remote.shape[0] - 1
    for i in range(remote.shape[0]):
        prefetch(nodes, remote[min(i + 3 * _AHEAD, last_one)])
        soon = remote[min(i + 2 * _AHEAD, last_one)]
        prefetch(slots, max(nodes[soon].slot, 0))
        prefetch(users, max(nodes[soon].place, 0))
        prefetch(next_use, max(nodes[soon].place, 0))
        near = nodes[remote[min(i + _AHEAD, last_one)]].slot
        if near != NOWHERE:
            prefetch(slots, max(slots[near].before, 0))
            prefetch(slots, max(slots[near].after, 0))
        node = remote[i]
        last = nodes[node].place
        slot = nodes[node].slot
        if _is_there(node, last, tail, length + i, users):
            next_use[last] = batch
        elif slot != NOWHERE:
            _unlink(slots, heads, slot)
            _link(slots, heads, slot, HEAT_RANKS + batch % ring)
        place = _wrapped(tail + length + i, size)
        users[place] = node
        next_use[place] = NEVER
        nodes[node].place = place
        nodes[node].heat += weight


@compiled
def split(
    remote: Int64s, batch: int, ring: int, nodes: Records, slots: Records, heads: Int32s, tail: int,
    next_use: Int32s, hits: Int64s, hit_slots: Int64s, misses: Int64s, miss_ranks: Int64s,
) -> int:  # fmt: skip
    """Tell hits from misses of the window's oldest batch, and rank both by their next use.

    The lists of this batch are just its hits, and are let go as a whole.
    Fills hits, hit_slots, misses and miss_ranks (all int64[n]); returns how many hits there are.
    """
    size, last_one = next_use.shape[0], remote.shape[0] - 1
    num_hits = 0
    num_misses = 0
    heads[HEAT_RANKS + batch % ring] = NOWHERE
    heads[HEAT_RANKS + batch % ring + ring] = NOWHERE
    for i in range(remote.shape[0]):
        prefetch(nodes, remote[min(i + 2 * _AHEAD, last_one)])
        prefetch(slots, max(nodes[remote[min(i + _AHEAD, last_one)]].slot, 0))
        node = remote[i]
        use = next_use[_wrapped(tail + i, size)]
        rank = heat_rank(nodes[node].heat) if use == NEVER else HEAT_RANKS + use % ring
        slot = nodes[node].slot
        if slot != NOWHERE:
            _link(slots, heads, slot, rank)
            hits[num_hits] = i
            hit_slots[num_hits] = slot
            num_hits += 1
        else:
            misses[num_misses] = i
            miss_ranks[num_misses] = rank
            num_misses += 1
    return num_hits


@inlined
def _first_displaceable(
    rank: int, threshold_heat: np.float32, ring: int, nodes: Records, slots: Records, heads: Int32s
) -> int:
    """A slot of this rank that may be displaced, or NOWHERE.

    Rows too hot for that leave the list until their next use, so that nobody meets them twice.
    """
    slot: int = heads[rank]
    if rank >= HEAT_RANKS:
        while slot != NOWHERE and nodes[slots[slot].node].heat >= threshold_heat:
            _unlink(slots, heads, slot)
            _link(slots, heads, slot, rank + ring)
            slot = heads[rank]
    return slot


@compiled
def admit(
    newcomers: Int64s, ranks: Int64s, batch: int, ring: int, threshold_heat: np.float32,
    nodes: Records, slots: Records, heads: Int32s, free: Int32s, num_free: int,
    admitted: Int64s, admitted_slots: Int64s,
) -> tuple[int, int]:  # fmt: skip
    """Give newcomers the free slots, then the slots of rows worth less, best newcomers first.

    newcomers: int64[m] remote numbers, not buffered; ranks: int64[m]; threshold_heat: rows at
    least this hot stay, and so do all of their heat rank; free: int32[capacity], a stack of
    `num_free` free slots. Fills `admitted` (positions in `newcomers`) and `admitted_slots`;
    returns (admitted, free slots left).
    """
    first_kept = HEAT_RANKS if threshold_heat == np.inf else heat_rank(threshold_heat)
    order = best_first(ranks, batch, ring)
    count = 0
    worst = 0
    for q in range(order.shape[0]):
        j = order[q]
        slot = NOWHERE
        if num_free > 0:
            num_free -= 1
            slot = free[num_free]
        else:
            mine = order_of(ranks[j], batch, ring)
            while worst < mine and slot == NOWHERE:
                if first_kept <= worst < HEAT_RANKS:
                    worst = HEAT_RANKS
                    continue
                rank = rank_of_order(worst, batch, ring)
                slot = _first_displaceable(rank, threshold_heat, ring, nodes, slots, heads)
                if slot == NOWHERE:
                    worst += 1
            if slot == NOWHERE:
                break
            _unlink(slots, heads, slot)
            nodes[slots[slot].node].slot = NOWHERE
        nodes[newcomers[j]].slot = slot
        slots[slot].node = newcomers[j]
        _link(slots, heads, slot, ranks[j])
        admitted[count] = j
        admitted_slots[count] = slot
        count += 1
    return count, num_free


@compiled
def target_ranks(
    targets: Int64s, weight: np.float32, oldest: int, widths: Int64s, ring: int, nodes: Records,
    tail: int, users: Int64s, ranks: Int64s,
) -> None:  # fmt: skip
    """Rank nodes that are not buffered as if each was used once more: first known use, else heat.

    widths: int64[batches], places of each batch of the window, whose first is number `oldest`.
    """
    for i in range(targets.shape[0]):
        ranks[i] = heat_rank(nodes[targets[i]].heat + weight)
        nodes[targets[i]].slot = NOWHERE - 1 - i
    place = tail
    for k in range(widths.shape[0]):
        for _ in range(widths[k]):
            i = NOWHERE - 1 - nodes[users[place]].slot
            if i >= 0 and ranks[i] < HEAT_RANKS:
                ranks[i] = HEAT_RANKS + (oldest + k) % ring
            place = _wrapped(place + 1, users.shape[0])
    for i in range(targets.shape[0]):
        nodes[targets[i]].slot = NOWHERE


@compiled
def worst_slots(batch: int, ring: int, slots: Records, heads: Int32s, found: Int64s) -> None:
    """Fill `found` with the slots worth least, however hot; there must be as many."""
    count = 0
    for order in range(HEAT_RANKS + ring):
        rank = rank_of_order(order, batch, ring)
        last = rank if rank < HEAT_RANKS else rank + ring
        for list_rank in range(rank, last + 1, ring):
            slot = heads[list_rank]
            while slot != NOWHERE and count < found.shape[0]:
                found[count] = slot
                count += 1
                slot = slots[slot].after
        if count == found.shape[0]:
            return


@compiled
def relink(
    used: Int64s, first_uses: Int64s, ring: int, nodes: Records, slots: Records, heads: Int32s
) -> None:
    """Build all lists anew for the slots in `used`; `first_uses`: next known batch or NEVER."""
    heads[:] = NOWHERE
    for i in range(used.shape[0]):
        use = first_uses[i]
        heat = nodes[slots[used[i]].node].heat
        rank = heat_rank(heat) if use == NEVER else HEAT_RANKS + use % ring
        _link(slots, heads, used[i], rank)
