"""LFU: evict the row with the fewest uses since the start.

After each batch the buffer holds the most used of its rows and the batch's misses; of equally used
rows the newcomer stays. Buffered nodes are in stacks, one per count of uses. A hit does not move
its node; the search for a victim moves it when it finds it there: O(1) amortised.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rudder.training.buffer.policies.slots import ReactiveBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.records import Int32s, Records
from rudder.training.buffer.stacks import (
    NONE,
    Chunks,
    best_first,
    is_empty,
    make_stacks,
    pop,
    push,
    soon,
)
from rudder.training.compiled import AHEAD, compiled, inlined, prefetch

_NO_ROUNDS = "it decides on every miss at once and has no rounds"


@inlined
def _count(node: int, nodes: Records, top: int) -> int:
    return min(int(nodes[node].uses), top)


@compiled
def stack_all(buffered: IntArray, nodes: Records, chunks: Chunks, tops: Int32s) -> None:
    """Put buffered nodes on the stacks of their counts."""
    for j in range(buffered.shape[0]):
        push(chunks, tops, _count(buffered[j], nodes, tops.shape[0] - 2), buffered[j])


@inlined
def _take_least_used(
    below: int, lowest: int, nodes: Records, chunks: Chunks, tops: Int32s
) -> tuple[int, int]:
    """Take a node with the fewest uses from its stack, if it was used fewer than `below` times.

    lowest: no buffered node has fewer uses. Returns (node or NONE, lowest).
    """
    top = tops.shape[0] - 2
    found = NONE
    while lowest < min(below, top + 1) and found == NONE:
        if is_empty(tops, lowest):
            lowest += 1
        else:
            prefetch(nodes, soon(chunks, tops, lowest, AHEAD))
            node = pop(chunks, tops, lowest)
            count = _count(node, nodes, top)
            if count == lowest:
                found = node
            else:
                push(chunks, tops, count, node)
    return found, lowest


@compiled
def admit(
    newcomers: IntArray, first_kept: int, nodes: Records, owners: IntArray, num_slots: int,
    num_free: int, chunks: Chunks, tops: Int32s, counts: IntArray, order: IntArray,
) -> int:  # fmt: skip
    """Admit newcomers, the most used first, while there are rows that were not used more often.

    first_kept: rows used so often, or more, stay; counts, order: int64[len(newcomers)], space to
    sort them. Returns the number of free slots.
    """
    for j in range(newcomers.shape[0]):
        counts[j] = _count(newcomers[j], nodes, tops.shape[0] - 2)
    best_first(counts, tops.shape[0] - 2, order)
    lowest = 0
    entered = 0
    for q in range(order.shape[0]):
        prefetch(nodes, newcomers[order[min(q + AHEAD, order.shape[0] - 1)]])
        node = newcomers[order[q]]
        if num_free > 0:
            num_free -= 1
            slot = num_slots - 1 - num_free
        else:
            below = min(_count(node, nodes, first_kept) + 1, first_kept)
            victim, lowest = _take_least_used(below, lowest, nodes, chunks, tops)
            if victim == NONE:
                break
            slot = int(nodes[victim].slot) - 1
            nodes[victim].slot = 0
        owners[slot] = node
        nodes[node].slot = slot + 1
        entered += 1
    for q in range(entered):
        push(chunks, tops, counts[order[q]], newcomers[order[q]])
    return num_free


@compiled
def take_least_used(found: IntArray, nodes: Records, chunks: Chunks, tops: Int32s) -> None:
    """Fill `found` with the nodes used least; at least as many are buffered."""
    lowest = 0
    for i in range(found.shape[0]):
        node, lowest = _take_least_used(tops.shape[0], lowest, nodes, chunks, tops)
        found[i] = node


class LfuBuffer(ReactiveBuffer):
    """Keeps the most used rows; the eviction threshold is in uses per batch since the start."""

    name: ClassVar[str] = "lfu"
    without_meaning: ClassVar[dict[str, str]] = {
        "replacement_interval": _NO_ROUNDS,
        "replace_now": _NO_ROUNDS,
    }

    _num_counts = 64
    """Stacks: one per count of uses, the last for all higher counts."""

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state."""
        return super().num_bytes + self._stacks.num_bytes

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        """A row that is fetched eagerly counts as used once more."""
        if self._batches + 2 >= self._num_counts:
            self._num_counts *= 2
            self._make_stacks()
            stack_all(self._buffered(), self._nodes, self._stacks.chunks, self._stacks.tops)
        newcomers = missed
        if len(targets):
            self._nodes["uses"][targets] += 1
            newcomers = np.concatenate([missed, targets])
        counts, order = self._pool.take_ids(2, len(newcomers))
        self._num_free = admit(
            newcomers, self._first_kept, self._nodes, self._owners, self._num_slots, self._num_free,
            self._stacks.chunks, self._stacks.tops, counts, order,
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

    def _worst(self, count: int) -> IntArray:
        dropped = np.empty(count, dtype=np.int64)
        take_least_used(dropped, self._nodes, self._stacks.chunks, self._stacks.tops)
        return dropped

    def _make_slots(self, capacity: int) -> None:
        super()._make_slots(capacity)
        self._make_stacks()

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        super()._resized(kept, sources)
        stack_all(kept, self._nodes, self._stacks.chunks, self._stacks.tops)

    def _make_stacks(self) -> None:
        self._stacks = make_stacks(self._num_counts, room=self._num_slots)
