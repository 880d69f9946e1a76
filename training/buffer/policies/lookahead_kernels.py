"""Compiled loops of the lookahead policy.

Rows are ordered by rank, from 0 (worth least) on:

    0 .. HEAT_RANKS - 1      next use unknown: by heat, 16 ranks per octave
    HEAT_RANKS .. + ring - 1 next use known, the furthest first

`ring` is a power of two, larger than the number of batches in the window. Buffered nodes are in
stacks, one per rank; that of a known next use, HEAT_RANKS + batch % ring, does not change. A use
raises a node's rank but does not move it, so its stack may be too low, never too high; it is moved
when the search for a victim finds it. A node whose next use was known is moved when that batch is
planned. So a use costs two accesses to one record, and a victim is found in O(1) amortised: each
use misplaces at most one node.

After the stacks of all ranks there are `ring` more, for rows with a known next use that were found
too hot to be displaced; the search skips them until that use.
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.records import Int32s, Int64s, Records
from rudder.training.buffer.stacks import NONE, Chunks, best_first, is_empty, pop, push, soon
from rudder.training.compiled import compiled, inlined, prefetch

NODE = np.dtype(
    [("slot", np.int32), ("first_use", np.int32), ("place", np.uint32), ("heat", np.float32)]
)
"""The record of a remote node: 1 + its buffer slot, 0: not buffered; the next known batch that uses
it, 0: none; if there is one, the place in the window of the last known use; and the decayed count
of its uses. All are zero at first. Four records fill a cache line."""
_AHEAD = 12
HEAT_RANKS = 704
_LOWEST_BITS = (127 - 20) << 4
"""2 ** -20 as the upper bits of a float32: its exponent and four bits of its mantissa."""
HIGHEST_HEAT = 2.0 ** (-20 + HEAT_RANKS / 16)
"""All rows hotter than this have the same rank."""


@inlined
def heat_rank(heat: np.float32) -> int:
    """Rank of a row whose next use is unknown: exponent and four mantissa bits of its heat."""
    bits = int(np.float32(heat).view(np.int32)) >> 19
    return min(max(bits - _LOWEST_BITS, 0), HEAT_RANKS - 1)


@inlined
def rank_of(first_use: int, heat: np.float32, batch: int, ring: int) -> int:
    """Rank of a row; first_use: its next use, 0: unknown; batch: the one that is planned."""
    if first_use == 0:
        return heat_rank(heat)
    return HEAT_RANKS + ring - 1 - ((first_use - batch) & (ring - 1))


@inlined
def stack_of(rank: int, batch: int, ring: int) -> int:
    """Number of the stack for rows of this rank."""
    if rank < HEAT_RANKS:
        return rank
    return HEAT_RANKS + ((batch + HEAT_RANKS + ring - 1 - rank) & (ring - 1))


@compiled
def observe(
    records: Int64s, batch: int, weight: np.float32, nodes: Records, next_use: Int32s,
    of_places: Int32s, head: int,
) -> None:  # fmt: skip
    """Add a batch to the window: link the last known use of each node to this one, and add heat.

    records: int64[n]; batch: number of this batch; weight: heat of one use now; nodes:
    NODE[..]; next_use, of_places: next uses and records of the window, with room from
    place `head` on.
    """
    mask, last_one = next_use.shape[0] - 1, records.shape[0] - 1
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + 2 * _AHEAD, last_one)])
        prefetch(next_use, int(nodes[records[min(i + _AHEAD, last_one)]].place) & mask)
        node = records[i]
        place = (head + i) & 0xFFFFFFFF
        of_places[place & mask] = node
        first_use = int(nodes[node].first_use)
        last = int(nodes[node].place) if first_use != 0 else place
        next_use[last & mask] = batch
        next_use[place & mask] = 0
        nodes[node].first_use = batch if first_use == 0 else first_use
        nodes[node].place = place
        nodes[node].heat += weight


@compiled
def split(
    size: int, batch: int, ring: int, nodes: Records, next_use: Int32s, of_places: Int32s,
    tail: int, hits: Int64s, hit_slots: Int64s, misses: Int64s, missed: Int64s,
    miss_ranks: Int64s,
) -> int:  # fmt: skip
    """Tell hits from misses in the oldest batch of the window, and rank the misses.

    The `size` uses of this batch begin at place `tail`. Fills hits, hit_slots, misses, missed
    (their records) and miss_ranks (all int64[size]); returns the number of hits.
    """
    mask, last_one = next_use.shape[0] - 1, size - 1
    num_hits = 0
    num_misses = 0
    for i in range(size):
        prefetch(nodes, of_places[(tail + min(i + 2 * _AHEAD, last_one)) & mask])
        node = int(of_places[(tail + i) & mask])
        use = int(next_use[(tail + i) & mask])
        nodes[node].first_use = use
        slot = int(nodes[node].slot)
        hits[num_hits] = i
        hit_slots[num_hits] = slot - 1
        misses[num_misses] = i
        missed[num_misses] = node
        miss_ranks[num_misses] = rank_of(use, nodes[node].heat, batch, ring)
        is_hit = 1 if slot > 0 else 0
        num_hits += is_hit
        num_misses += 1 - is_hit
    return num_hits


@compiled
def restack_used(
    batch: int, ring: int, nodes: Records, chunks: Chunks, tops: Int32s, moved: Int64s,
    stacks: Int64s,
) -> None:  # fmt: skip
    """Move the nodes whose known next use was this batch to the stacks of their new ranks.

    moved, stacks: int64[nodes of the batch], space for the nodes and their new stacks. A separate
    loop reads their scattered records, so that many of them are fetched from memory at once.
    """
    num_moved = 0
    for stack in (HEAT_RANKS + (batch & (ring - 1)), HEAT_RANKS + ring + (batch & (ring - 1))):
        while not is_empty(tops, stack):
            moved[num_moved] = pop(chunks, tops, stack)
            num_moved += 1
    for j in range(num_moved):
        prefetch(nodes, moved[min(j + 2 * _AHEAD, num_moved - 1)])
        record = nodes[moved[j]]
        rank = rank_of(int(record.first_use), record.heat, batch, ring)
        stacks[j] = stack_of(rank, batch, ring)
    for j in range(num_moved):
        push(chunks, tops, stacks[j], moved[j])


@inlined
def _restack(
    node: int, batch: int, ring: int, nodes: Records, chunks: Chunks, tops: Int32s
) -> None:
    rank = rank_of(int(nodes[node].first_use), nodes[node].heat, batch, ring)
    push(chunks, tops, stack_of(rank, batch, ring), node)


@inlined
def _take_worst(
    worst: int,
    below: int,
    first_kept: int,
    batch: int,
    ring: int,
    nodes: Records,
    chunks: Chunks,
    tops: Int32s,
) -> tuple[int, int]:
    """Take a node with the lowest rank that may be displaced, if that is below `below`.

    worst: no node is in a lower stack; first_kept: nodes with this heat rank or a higher one stay.
    Returns (node or NONE, worst).
    """
    found = NONE
    while worst < below and found == NONE:
        stack = stack_of(worst, batch, ring)
        if first_kept <= worst < HEAT_RANKS:
            worst = HEAT_RANKS
        elif is_empty(tops, stack):
            worst += 1
        else:
            prefetch(nodes, soon(chunks, tops, stack, _AHEAD))
            node = pop(chunks, tops, stack)
            heat = nodes[node].heat
            rank = rank_of(int(nodes[node].first_use), heat, batch, ring)
            if rank != worst:
                push(chunks, tops, stack_of(rank, batch, ring), node)
            elif worst >= HEAT_RANKS and heat_rank(heat) >= first_kept:
                push(chunks, tops, stack + ring, node)
            else:
                found = node
    return found, worst


@compiled
def admit(
    newcomers: Int64s, ranks: Int64s, batch: int, ring: int, threshold_heat: np.float32,
    nodes: Records, chunks: Chunks, tops: Int32s, num_slots: int, num_free: int,
    order: Int64s, admitted: Int64s, admitted_slots: Int64s,
) -> tuple[int, int]:  # fmt: skip
    """Give newcomers the free slots, then the slots of rows worth less; the best newcomers first.

    newcomers: int64[m] records, not buffered; ranks: int64[m]; threshold_heat: rows with the rank
    of this heat or a higher one stay; num_free: the last so many of the slots are free;
    order: int64[m], space to sort the newcomers. Fills `admitted` (positions in `newcomers`) and
    `admitted_slots`; returns (number admitted, free slots left).
    """
    first_kept = HEAT_RANKS if threshold_heat == np.inf else heat_rank(threshold_heat)
    best_first(ranks, HEAT_RANKS + ring - 1, order)
    last_one = order.shape[0] - 1
    count = 0
    worst = 0
    for q in range(order.shape[0]):
        prefetch(nodes, newcomers[order[min(q + _AHEAD, last_one)]])
        j = order[q]
        if num_free > 0:
            num_free -= 1
            slot = num_slots - 1 - num_free
        else:
            victim, worst = _take_worst(
                worst, ranks[j], first_kept, batch, ring, nodes, chunks, tops
            )
            if victim == NONE:
                break
            slot = int(nodes[victim].slot) - 1
            nodes[victim].slot = 0
        nodes[newcomers[j]].slot = slot + 1
        push(chunks, tops, stack_of(ranks[j], batch, ring), newcomers[j])
        admitted[count] = j
        admitted_slots[count] = slot
        count += 1
    return count, num_free


@compiled
def target_ranks(
    targets: Int64s, weight: np.float32, batch: int, ring: int, nodes: Records, ranks: Int64s
) -> None:
    """Rank nodes that are not buffered as if they were used once more."""
    for i in range(targets.shape[0]):
        node = targets[i]
        heat = nodes[node].heat + weight
        ranks[i] = rank_of(int(nodes[node].first_use), heat, batch, ring)


@compiled
def stack_all(
    buffered: Int64s, batch: int, ring: int, nodes: Records, chunks: Chunks, tops: Int32s
) -> None:
    """Put all buffered nodes, int64[n], on the stacks of their ranks."""
    for i in range(buffered.shape[0]):
        _restack(buffered[i], batch, ring, nodes, chunks, tops)


@compiled
def take_worst(
    found: Int64s, batch: int, ring: int, nodes: Records, chunks: Chunks, tops: Int32s
) -> None:
    """Fill `found` with the nodes worth least, however hot; at least as many must be buffered.

    `stack_all` must have been called just before.
    """
    worst = 0
    for i in range(found.shape[0]):
        node, worst = _take_worst(worst, 2**31, HEAT_RANKS, batch, ring, nodes, chunks, tops)
        found[i] = node
