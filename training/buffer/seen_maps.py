"""Compiled loops that find records of remote nodes, in a hash table or in an array of all nodes.

The table uses open addressing with linear probing; neighbours in the graph share cache lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.prefetch import AHEAD, prefetch
from rudder.training.buffer.records import Int32s, Int64s, Numbers, Records
from rudder.training.compiled import compiled, inlined

NARROW = np.dtype([("node", np.uint32), ("record", np.uint32)])
WIDE = np.dtype([("node", np.uint64), ("record", np.uint64)])
MIN_BITS = 10
_IN_LINE = 8
"""Entries per group: nodes with neighbouring numbers share a cache line."""
_LINE_BITS = 3
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 over the golden ratio: Fibonacci hashing (Knuth, vol. 3, 6.4)."""


@compiled
def find_dense(remote: Int64s, records: Int32s, numbers: Numbers, count: int, found: Int64s) -> int:
    """Fill found with the records of nodes; new nodes get records from number `count` on.

    remote, found: int64[n]; records: int32[num_remote], 1 + record, 0: none; numbers: the node of
    each record. Returns the number of records.
    """
    last_one = remote.shape[0] - 1
    for i in range(remote.shape[0]):
        prefetch(records, remote[min(i + AHEAD, last_one)])
        node = remote[i]
        record = int(records[node])
        if record == 0:
            numbers[count] = node
            count += 1
            record = count
            records[node] = record
        found[i] = record - 1
    return count


@inlined
def _home(node: int, bits: int) -> int:
    """Where the search for a node's entry begins: a place in the cache line of its group."""
    mixed = np.uint64(node >> _LINE_BITS) * _MULTIPLIER
    line = int(mixed >> np.uint64(64 - (bits - _LINE_BITS)))
    return (line << _LINE_BITS) | ((node ^ int(mixed >> np.uint64(16))) & (_IN_LINE - 1))


@inlined
def _entry(node: int, place: int, table: Records) -> int:
    """The node's place in the table, or the empty place for it; place: its home."""
    mask = table.shape[0] - 1
    while table[place].record != 0 and int(table[place].node) != node:
        place = (place + 1) & mask
    return place


@compiled
def find_hashed(
    remote: Int64s, table: Records, bits: int, numbers: Numbers, count: int, found: Int64s
) -> int:
    """As find_dense; table: NARROW or WIDE [2 ** bits], at most half full afterwards."""
    size = remote.shape[0]
    for i in range(-AHEAD, size):
        soon = i + AHEAD
        if soon < size:
            found[soon] = _home(remote[soon], bits)
            prefetch(table, found[soon])
        if i < 0:
            continue
        node = remote[i]
        place = _entry(node, found[i], table)
        if table[place].record == 0:
            numbers[count] = node
            count += 1
            table[place].node = node
            table[place].record = count
        found[i] = int(table[place].record) - 1
    return count


@compiled
def has_hashed(remote: Int64s, table: Records, bits: int, found: NDArray[np.bool_]) -> None:
    """Fill found with whether each node is in the table."""
    for i in range(remote.shape[0]):
        found[i] = table[_entry(remote[i], _home(remote[i], bits), table)].record != 0


@compiled
def enter_all(old: Records, table: Records, bits: int) -> None:
    """Copy all entries to an empty table."""
    for place in range(old.shape[0]):
        if old[place].record != 0:
            node = int(old[place].node)
            target = _entry(node, _home(node, bits), table)
            table[target].node = old[place].node
            table[target].record = old[place].record
