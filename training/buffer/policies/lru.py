"""Least recently used goes first; every miss is admitted, for its row is in hand.

Uses are appended to a log. A row's last use is the one entry of it whose batch is the node's mark;
eviction reads the log from its old end and passes over the others. Exact LRU, O(1) amortised, and
a hit touches nothing but the node's record and the log's end.
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

_NO_ROUNDS = "it admits every miss at once and has no rounds"


@compiled
def split(
    records: IntArray, batch: int, nodes: Records, log: IntArray, log_batches: Int32s, head: int,
    hits: IntArray, hit_slots: IntArray, misses: IntArray, missed: IntArray,
) -> tuple[int, int]:  # fmt: skip
    """Tell hits from misses, and log the hits; returns (hits, head of the log)."""
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        nodes[node].uses += np.uint32(1)
        slot = nodes[node].slot
        if slot > 0:
            nodes[node].mark = batch
            log[head + num_hits] = node
            log_batches[head + num_hits] = batch
            hits[num_hits] = i
            hit_slots[num_hits] = slot - 1
            num_hits += 1
        else:
            misses[num_misses] = i
            missed[num_misses] = node
            num_misses += 1
    return num_hits, head + num_hits


@inlined
def _is_last_use(entry: int, nodes: Records, log: IntArray, log_batches: Int32s) -> bool:
    node = log[entry]
    is_last: bool = nodes[node].mark == log_batches[entry]
    return is_last and nodes[node].slot > 0


@compiled
def admit(
    newcomers: IntArray, batch: int, nodes: Records, owners: IntArray, free: Int32s,
    num_free: int, log: IntArray, log_batches: Int32s, tail: int, head: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Let all in, one after another; returns (free slots, tail, head)."""
    for j in range(newcomers.shape[0]):
        node = newcomers[j]
        if num_free > 0:
            num_free -= 1
            slot = free[num_free]
        else:
            prefetch(nodes, log[min(tail + AHEAD, head - 1)])
            while not _is_last_use(tail, nodes, log, log_batches):
                tail += 1
                prefetch(nodes, log[min(tail + AHEAD, head - 1)])
            slot = nodes[log[tail]].slot - 1
            nodes[log[tail]].slot = 0
            tail += 1
        owners[slot] = node
        nodes[node].slot = slot + 1
        nodes[node].mark = batch
        log[head] = node
        log_batches[head] = batch
        head += 1
    return num_free, tail, head


@compiled
def evict(
    count: int, nodes: Records, free: Int32s, num_free: int, log: IntArray, log_batches: Int32s,
    tail: int,
) -> tuple[int, int]:  # fmt: skip
    """Free so many slots; returns (free slots, tail)."""
    while count > 0:
        if _is_last_use(tail, nodes, log, log_batches):
            free[num_free] = nodes[log[tail]].slot - 1
            nodes[log[tail]].slot = 0
            num_free += 1
            count -= 1
        tail += 1
    return num_free, tail


@compiled
def copy_last_uses(
    nodes: Records, log: IntArray, log_batches: Int32s, tail: int, head: int,
    new_log: IntArray, new_log_batches: Int32s,
) -> int:  # fmt: skip
    """Copy the entries that matter to another log (or the same), from its start on."""
    count = 0
    for entry in range(tail, head):
        if _is_last_use(entry, nodes, log, log_batches):
            new_log[count] = log[entry]
            new_log_batches[count] = log_batches[entry]
            count += 1
    return count


class LruBuffer(ReactiveBuffer):
    """Hits of a batch are used before its misses, each in their order."""

    name: ClassVar[str] = "lru"
    without_meaning: ClassVar[dict[str, str]] = {
        "eviction_threshold": "it goes by the last use and predicts no uses",
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
        self._log = np.empty(0, dtype=np.int64)
        self._log_batches = np.empty(0, dtype=np.int32)
        self._tail = self._head = 0

    def _split(self, records: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        size = len(records)
        self._make_room(size)
        hits, hit_slots, misses, missed = (self._scratch.empty(size) for _ in range(4))
        count, self._head = split(
            records, self._batches, self._nodes, self._log, self._log_batches, self._head,
            hits, hit_slots, misses, missed,
        )  # fmt: skip
        left = size - count
        return hits[:count], hit_slots[:count], misses[:left], missed[:left]

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        newcomers = np.concatenate([missed, targets]) if len(targets) else missed
        if not len(self._owners):
            return
        self._make_room(len(newcomers))
        self._num_free, self._tail, self._head = admit(
            newcomers, self._batches, self._nodes, self._owners, self._free, self._num_free,
            self._log, self._log_batches, self._tail, self._head,
        )  # fmt: skip

    def _evict(self, count: int) -> None:
        self._num_free, self._tail = evict(
            count, self._nodes, self._free, self._num_free, self._log, self._log_batches, self._tail
        )

    def _make_room(self, width: int) -> None:
        """Let `width` more entries fit: close the gaps, at least every capacity + batch uses."""
        if self._head + width <= len(self._log):
            return
        log, batches = self._log, self._log_batches
        wanted = 2 * (len(self._owners) + width)
        if len(log) < wanted:
            log, batches = np.empty(wanted, dtype=np.int64), np.empty(wanted, dtype=np.int32)
        self._head = copy_last_uses(
            self._nodes, self._log, self._log_batches, self._tail, self._head, log, batches
        )
        self._tail = 0
        self._log, self._log_batches = log, batches
