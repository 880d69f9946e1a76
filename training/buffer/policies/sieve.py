"""SIEVE: a queue in order of arrival, and a hand that passes over it and takes unvisited rows.

Zhang et al., NSDI 2024, algorithm 1. A hit marks the row as visited. To evict, the hand moves from
old to new, clears the mark of visited rows, and takes the first unvisited one; past the newest it
begins at the oldest again. Every miss is admitted for free, as the newest.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rudder.training.buffer.policies.reactive import ReactiveBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Int32s, Records
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.compiled import compiled, inlined
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

GONE = -1
"""In the queue: the place of a row that was evicted."""
_NO_ROUNDS = "it admits every miss at once and has no rounds"


@inlined
def _next_victim(nodes: Records, queue: IntArray, hand: int, tail: int) -> int:
    """Place of the row to evict; the queue (places 0 .. tail - 1) holds one at least."""
    while True:
        if hand == tail:
            hand = 0
        prefetch(nodes, max(queue[min(hand + AHEAD, tail - 1)], 0))
        node = queue[hand]
        if node != GONE:
            if nodes[node].mark == 0:
                return hand
            nodes[node].mark = 0
        hand += 1


@inlined
def _after(place: int, queue: IntArray, tail: int) -> int:
    """The next row's place, or the oldest's, so that rows to come are not mistaken for the next."""
    place += 1
    while place < tail and queue[place] == GONE:
        place += 1
    return 0 if place == tail else place


@compiled
def admit(
    newcomers: IntArray, nodes: Records, owners: IntArray, free: Int32s, num_free: int,
    queue: IntArray, hand: int, tail: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Let all in, one after another; returns (free slots, hand, tail of the queue)."""
    for j in range(newcomers.shape[0]):
        node = newcomers[j]
        if num_free > 0:
            num_free -= 1
            slot = free[num_free]
        else:
            hand = _next_victim(nodes, queue, hand, tail)
            slot = nodes[queue[hand]].slot - 1
            nodes[queue[hand]].slot = 0
            queue[hand] = GONE
            hand = _after(hand, queue, tail)
        owners[slot] = node
        nodes[node].slot = slot + 1
        nodes[node].mark = 0
        queue[tail] = node
        tail += 1
    return num_free, hand, tail


@compiled
def evict(
    count: int, nodes: Records, free: Int32s, num_free: int, queue: IntArray, hand: int, tail: int
) -> tuple[int, int]:
    """Free so many slots; returns (free slots, hand)."""
    for _ in range(count):
        hand = _next_victim(nodes, queue, hand, tail)
        free[num_free] = nodes[queue[hand]].slot - 1
        num_free += 1
        nodes[queue[hand]].slot = 0
        queue[hand] = GONE
        hand = _after(hand, queue, tail)
    return num_free, hand


class SieveBuffer(ReactiveBuffer):
    """The hits of a batch are visited first, then its misses come in, in their order."""

    name: ClassVar[str] = "sieve"
    max_mark: ClassVar[int] = 1
    without_meaning: ClassVar[dict[str, str]] = {
        "eviction_threshold": "a row is visited or not, and no uses are predicted",
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
        self._queue = np.empty(0, dtype=np.int64)
        self._hand = self._tail = 0

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        if not len(self._owners):
            return
        newcomers = np.concatenate([missed, targets]) if len(targets) else missed
        self._make_room(len(newcomers))
        self._num_free, self._hand, self._tail = admit(
            newcomers, self._nodes, self._owners, self._free, self._num_free,
            self._queue, self._hand, self._tail,
        )  # fmt: skip

    def _evict(self, count: int) -> None:
        self._num_free, self._hand = evict(
            count, self._nodes, self._free, self._num_free, self._queue, self._hand, self._tail
        )

    def _make_room(self, width: int) -> None:
        """Let `width` more rows in: close the gaps, at least every capacity + batch rows."""
        if self._tail + width <= len(self._queue):
            return
        is_there = self._queue[: self._tail] != GONE
        left = self._queue[: self._tail][is_there]
        self._hand = int(np.count_nonzero(is_there[: self._hand]))
        wanted = 2 * (len(self._owners) + width)
        if len(self._queue) < wanted:
            self._queue = np.empty(wanted, dtype=np.int64)
        self._queue[: len(left)] = left
        self._tail = len(left)
