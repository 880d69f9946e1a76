"""Least frequently used goes first, by all uses since the start.

After each batch the buffer holds the most used of its rows and the batch's misses; of equally
used rows the newcomer stays. Misses are admitted for free. Slots wait in a queue per count; a hit
does not move its slot, which is put where it belongs when eviction meets it: O(1) amortised.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.reactive import ReactiveBuffer
from rudder.training.buffer.records import Int32s, Records
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.compiled import compiled, inlined
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

NOWHERE = -1
_NO_ROUNDS = "it weighs every miss at once and has no rounds"


@inlined
def _count(node: int, nodes: Records, top: int) -> int:
    uses: int = nodes[node].uses
    return min(uses, top)


@inlined
def _enqueue(slot: int, count: int, heads: Int32s, tails: Int32s, after: Int32s) -> None:
    after[slot] = NOWHERE
    if heads[count] == NOWHERE:
        heads[count] = slot
    else:
        after[tails[count]] = slot
    tails[count] = slot


@compiled
def enqueue(
    slots: IntArray, nodes: Records, owners: IntArray, heads: Int32s, tails: Int32s, after: Int32s
) -> None:
    """Put slots into the queues of their nodes' counts (after: int32[capacity])."""
    for j in range(slots.shape[0]):
        slot = slots[j]
        count = _count(owners[slot], nodes, heads.shape[0] - 1)
        _enqueue(slot, count, heads, tails, after)


@compiled
def take_least_used(
    below: int, lowest: int, nodes: Records, owners: IntArray, heads: Int32s, tails: Int32s,
    after: Int32s,
) -> tuple[int, int]:  # fmt: skip
    """Take a slot used least, and fewer than `below` times, from its queue.

    lowest: no slot in use was used less. Returns (slot or NOWHERE, lowest).
    """
    while lowest < min(below, heads.shape[0]):
        slot = heads[lowest]
        if slot == NOWHERE:
            lowest += 1
            continue
        heads[lowest] = after[slot]
        count = _count(owners[slot], nodes, heads.shape[0] - 1)
        if count == lowest:
            return slot, lowest
        _enqueue(slot, count, heads, tails, after)
    return NOWHERE, lowest


@compiled
def most_used_first(newcomers: IntArray, nodes: Records, top: int) -> IntArray:
    """Positions in `newcomers` by their uses, of which there are at most `top` (counting sort)."""
    starts = np.zeros(top + 2, dtype=np.int64)
    for j in range(newcomers.shape[0]):
        starts[top - _count(newcomers[j], nodes, top) + 1] += 1
    for k in range(top + 1):
        starts[k + 1] += starts[k]
    found = np.empty(newcomers.shape[0], dtype=np.int64)
    for j in range(newcomers.shape[0]):
        k = top - _count(newcomers[j], nodes, top)
        found[starts[k]] = j
        starts[k] += 1
    return found


@compiled
def admit(
    newcomers: IntArray, first_kept: int, nodes: Records, owners: IntArray, free: Int32s,
    num_free: int, heads: Int32s, tails: Int32s, after: Int32s,
) -> int:  # fmt: skip
    """Let newcomers in, the most used first, while rows are there that are used no more.

    first_kept: rows used so often, or more, stay. Returns the number of free slots.
    """
    order = most_used_first(newcomers, nodes, heads.shape[0] - 1)
    lowest = 0
    entered = 0
    slots = np.empty(newcomers.shape[0], dtype=np.int64)
    for q in range(order.shape[0]):
        node = newcomers[order[q]]
        slot = NOWHERE
        if num_free > 0:
            num_free -= 1
            slot = free[num_free]
        else:
            below = min(_count(node, nodes, first_kept) + 1, first_kept)
            slot, lowest = take_least_used(below, lowest, nodes, owners, heads, tails, after)
            if slot == NOWHERE:
                break
            nodes[owners[slot]].slot = 0
        owners[slot] = node
        nodes[node].slot = slot + 1
        slots[entered] = slot
        entered += 1
    enqueue(slots[:entered], nodes, owners, heads, tails, after)
    return num_free


@compiled
def evict(
    count: int, nodes: Records, owners: IntArray, free: Int32s, num_free: int, heads: Int32s,
    tails: Int32s, after: Int32s,
) -> int:  # fmt: skip
    """Free so many slots, those used least; returns the number of free slots."""
    lowest = 0
    for _ in range(count):
        slot, lowest = take_least_used(
            heads.shape[0], lowest, nodes, owners, heads, tails, after
        )  # fmt: skip
        nodes[owners[slot]].slot = 0
        free[num_free] = slot
        num_free += 1
    return num_free


class LfuBuffer(ReactiveBuffer):
    """Keeps the most used rows; the threshold is in uses per batch so far."""

    name: ClassVar[str] = "lfu"
    without_meaning: ClassVar[dict[str, str]] = {
        "replacement_interval": _NO_ROUNDS,
        "replace_now": _NO_ROUNDS,
    }

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        vip: InclusionProbability | None = None,
    ) -> None:
        super().__init__(view, settings, vip=vip)
        self._make_queues(64)

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        """A row that is fetched eagerly counts as used once more."""
        if self._batches + 2 >= len(self._heads):
            self._make_queues(2 * len(self._heads))
        newcomers = missed
        if len(targets):
            self._nodes["uses"][targets] += 1
            newcomers = np.concatenate([missed, targets])
        self._num_free = admit(
            newcomers, self._first_kept, self._nodes, self._owners, self._free, self._num_free,
            self._heads, self._tails, self._after,
        )  # fmt: skip
        if len(targets):
            left_out = targets[self._nodes["slot"][targets] == 0]
            self._nodes["uses"][left_out] -= 1

    @property
    def _first_kept(self) -> int:
        threshold = self._settings.eviction_threshold
        if threshold >= 1:
            return 2**31
        return int(np.ceil(threshold * self._batches))

    def _evict(self, count: int) -> None:
        self._num_free = evict(
            count, self._nodes, self._owners, self._free, self._num_free,
            self._heads, self._tails, self._after,
        )  # fmt: skip

    def _resized(self, kept: IntArray) -> None:
        self._make_queues(len(self._heads))

    def _make_queues(self, size: int) -> None:
        """One queue per count below `size` (the last: all above), filled anew."""
        self._heads = np.full(size, NOWHERE, dtype=np.int32)
        self._tails = np.full(size, NOWHERE, dtype=np.int32)
        self._after = np.full(len(self._owners), NOWHERE, dtype=np.int32)
        enqueue(
            self._used_slots(), self._nodes, self._owners, self._heads, self._tails, self._after
        )
