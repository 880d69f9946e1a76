"""Which record belongs to which remote node; compiled loops work on record numbers.

In a small graph each node has a record, of its own number. In a larger one only nodes that were
seen have one: records are numbered in the order in which nodes are first seen, and a map leads
from the node to the number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.records import Int32s, Int64s, Numbers, Records, zeros
from rudder.training.buffer.rows import MemoryPool
from rudder.training.compiled import AHEAD, compiled, inlined, prefetch
from rudder.training.errors import MachineError

NARROW = np.dtype([("node", np.uint32), ("record", np.uint32)])
WIDE = np.dtype([("node", np.uint64), ("record", np.uint64)])
MIN_BITS = 10
_IN_LINE = 8
"""Entries per group: nodes with neighbouring numbers share a cache line."""
_LINE_BITS = 3
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 over the golden ratio: Fibonacci hashing (Knuth, vol. 3, 6.4)."""
WHOLE_UP_TO = 2**22
"""Remote nodes up to which every node has a record: at most 64 MB of records."""
_MAX_RECORDS = 2**31 - 1


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


class WholeDirectory:
    """The record of each node has the number of the node."""

    num_bytes = 0

    def __init__(self, num_remote: int) -> None:
        self._num_remote = num_remote

    def __len__(self) -> int:
        """All nodes."""
        return self._num_remote

    def find(self, nodes: IntArray) -> IntArray:
        """The nodes themselves."""
        return nodes

    def is_seen(self, nodes: IntArray) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(len(nodes), dtype=bool)

    def nodes_of(self, records: IntArray) -> IntArray:
        """The records themselves."""
        return records


class SeenDirectory:
    """Numbers remote nodes 0, 1, ... as they are seen for the first time.

    The map from node to number is a hash table, at most half full, with eight bytes per place
    (sixteen beyond 2 ** 32 nodes). If an array of four bytes for every node of the graph takes less
    memory, it becomes such an array: for 111 million remote nodes it takes 0.44 GB at most.
    """

    def __init__(self, num_remote: int) -> None:
        """num_remote: remote nodes of the graph; any of them may be seen."""
        self._num_remote = num_remote
        self._bits = MIN_BITS
        self._table: Records = zeros(1 << MIN_BITS, NARROW if num_remote <= 2**32 else WIDE)
        self._dense: Int32s | None = None
        narrow = num_remote <= _MAX_RECORDS
        self._numbers: Numbers = zeros(num_remote, np.dtype(np.int32 if narrow else np.int64))
        self._count = 0
        self._pool = MemoryPool(max_blocks=2)

    def __len__(self) -> int:
        """Nodes seen."""
        return self._count

    @property
    def map_bytes(self) -> int:
        """Memory of the map from node to number."""
        return self._table.nbytes if self._dense is None else self._dense.nbytes

    @property
    def num_bytes(self) -> int:
        """Memory of the map and the list of nodes."""
        listed = self._count * self._numbers.itemsize
        return self.map_bytes + listed + self._pool.num_bytes

    def find(self, nodes: IntArray) -> IntArray:
        """int64[n]: the records of these nodes; new nodes get one.

        Raises MachineError if there are more records than 32 bits can number.
        """
        if self._count + len(nodes) > _MAX_RECORDS:
            raise MachineError(
                f"{self._count} remote nodes were seen, more than one buffer can number",
                remedy="split the graph into more partitions",
            )
        self._make_room(len(nodes))
        found: IntArray = self._pool.take_ids(1, len(nodes))[0]
        numbers, count = self._numbers, self._count
        if self._dense is None:
            self._count = find_hashed(nodes, self._table, self._bits, numbers, count, found)
        else:
            self._count = find_dense(nodes, self._dense, numbers, count, found)
        return found

    def is_seen(self, nodes: IntArray) -> NDArray[np.bool_]:
        """bool[n]: which of these nodes have a record; none gets one."""
        if self._dense is not None:
            return np.not_equal(self._dense[nodes], 0)
        found = np.empty(len(nodes), dtype=bool)
        has_hashed(nodes, self._table, self._bits, found)
        return found

    def nodes_of(self, records: IntArray) -> IntArray:
        """int64[n]: the nodes of these records."""
        return self._numbers[records].astype(np.int64)

    def _make_room(self, more: int) -> None:
        """Let the map have room for `more` nodes."""
        bits = max((2 * (self._count + more) - 1).bit_length(), self._bits)
        if self._dense is not None or bits == self._bits:
            return
        old, dense_type = self._table, np.dtype(np.int32)
        if old.itemsize << bits > dense_type.itemsize * self._num_remote:
            self._dense = zeros(self._num_remote, dense_type)
            entries = old[old["record"] != 0]
            self._dense[entries["node"]] = entries["record"]
            self._table = old[:0].copy()
            return
        self._table, self._bits = zeros(1 << bits, old.dtype), bits
        enter_all(old, self._table, bits)


Directory = WholeDirectory | SeenDirectory


def make_directory(num_remote: int) -> Directory:
    """The directory that suits a graph of so many remote nodes."""
    return WholeDirectory(num_remote) if num_remote <= WHOLE_UP_TO else SeenDirectory(num_remote)
