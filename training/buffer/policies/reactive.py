"""What the policies share that learn from each batch when it is planned, not before.

A sub-class decides which misses get a slot and which rows leave.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policies.slots import SlotBuffer
from rudder.training.buffer.policy import IntArray, Plan
from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Records
from rudder.training.compiled import compiled

NODE = np.dtype([("slot", np.int32), ("uses", np.uint32), ("mark", np.int32)])
"""The record of each remote node seen: 1 + its buffer slot, 0: not buffered; the number of batches
that used it; and a mark for the policy's own purposes. All are zero at first."""


@compiled
def split(
    records: IntArray, nodes: Records, hits: IntArray, hit_slots: IntArray, misses: IntArray,
    missed: IntArray,
) -> int:  # fmt: skip
    """Tell hits from misses and count the uses.

    records: int64[n]; nodes: NODE[..]. Fills hits, hit_slots, misses and missed (their records;
    all int64[n]) and returns the number of hits.
    """
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        nodes[node].uses += np.uint32(1)
        slot = nodes[node].slot
        if slot > 0:
            hits[num_hits] = i
            hit_slots[num_hits] = slot - 1
            num_hits += 1
        else:
            misses[num_misses] = i
            missed[num_misses] = node
            num_misses += 1
    return num_hits


@compiled
def find_admitted(records: IntArray, nodes: Records, admitted: IntArray, slots: IntArray) -> int:
    """Fill admitted with the positions of records that have a slot, and slots; returns how many."""
    count = 0
    for j in range(records.shape[0]):
        slot = nodes[records[j]].slot
        if slot > 0:
            admitted[count] = j
            slots[count] = slot - 1
            count += 1
    return count


class ReactiveBuffer(SlotBuffer):
    """Knows the record in each slot (`_owners`) and the number of batches so far."""

    node = NODE
    _batches = 0

    def observe(self, nodes: IntArray) -> None:
        """Nothing is learned from batches to come."""

    def skip(self, nodes: IntArray) -> None:
        """Nothing is learned from a batch that does not happen."""

    def plan(self, nodes: IntArray) -> Plan:
        """Tell hits from misses, and give slots to the misses that the policy admits."""
        self._batches += 1
        hits, hit_slots, misses, missed = self._split(self._directory.find(nodes))
        targets = self._take_targets(missed)
        self._admit(missed, targets)
        admitted, slots = self._admitted(missed)
        chosen, target_slots = self._admitted(targets)
        return Plan(
            hits=hits,
            hit_slots=hit_slots,
            misses=misses,
            admitted=admitted,
            admitted_slots=slots,
            targets=self._directory.nodes_of(targets[chosen]),
            target_slots=target_slots,
            resize=self._take_resize(),
        )

    def _admit(self, missed: IntArray, targets: IntArray) -> None:
        """Give slots to some of a batch's misses, and to some of the rows to fetch eagerly."""
        raise NotImplementedError

    def _heat(self) -> NDArray[np.float32]:
        return self._records()["uses"].astype(np.float32)

    def _split(self, records: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Positions of hits, their slots, positions of misses, and their records."""
        size = len(records)
        hits, hit_slots, misses, missed = (self._scratch.empty(size) for _ in range(4))
        count = split(records, self._nodes, hits, hit_slots, misses, missed)
        left = size - count
        return hits[:count], hit_slots[:count], misses[:left], missed[:left]

    def _admitted(self, records: IntArray) -> tuple[IntArray, IntArray]:
        """Positions of the records that have a slot by now, and their slots."""
        admitted, slots = (self._scratch.empty(len(records)) for _ in range(2))
        count = find_admitted(records, self._nodes, admitted, slots)
        return admitted[:count], slots[:count]

    def _take_targets(self, missed: IntArray) -> IntArray:
        """As SlotBuffer does, but no more than there are slots."""
        return super()._take_targets(missed)[: len(self._free)]

    # -- slots --------------------------------------------------------------------------

    def _make_slots(self, capacity: int) -> None:
        super()._make_slots(capacity)
        self._owners = np.zeros(len(self._free), dtype=np.int64)

    def _used_slots(self) -> IntArray:
        is_used = np.ones(len(self._owners), dtype=bool)
        is_used[self._free[: self._num_free]] = False
        return np.flatnonzero(is_used)

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        self._owners[: len(kept)] = kept
