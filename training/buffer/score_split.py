"""The loop over a batch of the score policy, and the records that it works on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Records
from rudder.training.buffer.vip import FloatArray
from rudder.training.compiled import compiled

NODE = np.dtype([("slot", np.int32), ("access", np.float64)])
"""1 + slot, 0: not buffered; and S_A, 0 while buffered."""


@compiled
def split(
    records: IntArray, counts: bool, countable: NDArray[np.bool_], nodes: Records,
    keys: FloatArray, scored: IntArray, num_scored: int, hits: IntArray, hit_slots: IntArray,
    misses: IntArray, missed: IntArray,
) -> tuple[int, int]:  # fmt: skip
    """Tell hits from misses, score both, and note those that get their first S_A in `scored`.

    records: int64[n]; counts: whether misses raise S_A; countable: bool[n], of which of them, or
    bool[0]: of all. Fills hits, hit_slots, misses and missed (their records); returns (hits,
    length of `scored`).
    """
    num_hits = 0
    num_misses = 0
    for i in range(records.shape[0]):
        prefetch(nodes, records[min(i + AHEAD, records.shape[0] - 1)])
        node = records[i]
        slot = nodes[node].slot
        if slot > 0:
            keys[slot - 1] -= 1.0
            hits[num_hits] = i
            hit_slots[num_hits] = slot - 1
            num_hits += 1
            continue
        misses[num_misses] = i
        missed[num_misses] = node
        num_misses += 1
        if counts and (countable.shape[0] == 0 or countable[i]):
            if nodes[node].access == 0:
                scored[num_scored] = node
                num_scored += 1
            nodes[node].access += 1.0
    return num_hits, num_scored
