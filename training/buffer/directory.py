"""Which record belongs to which remote node; compiled loops work on record numbers.

In a small graph each node has a record, of its own number. In a larger one only nodes that were
seen have one: records are numbered in the order in which nodes are first seen, and a map leads
from the node to the number (seen_maps.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.memory import zeros
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.records import Numbers
from rudder.training.buffer.scratch import Scratch
from rudder.training.buffer.seen_maps import DenseMap, HashedMap
from rudder.training.errors import MachineError

WHOLE_UP_TO = 2**22
"""Remote nodes up to which every node has a record: at most 64 MB of records."""
_MAX_RECORDS = 2**31 - 1


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
    """Numbers remote nodes 0, 1, ... as they are seen for the first time."""

    def __init__(self, num_remote: int) -> None:
        """num_remote: remote nodes of the graph; any of them may be seen."""
        self._num_remote = num_remote
        self._map: DenseMap | HashedMap = HashedMap(num_remote)
        narrow = num_remote <= _MAX_RECORDS
        self._numbers: Numbers = zeros(num_remote, np.dtype(np.int32 if narrow else np.int64))
        self._count = 0
        self._scratch = Scratch()

    def __len__(self) -> int:
        """Nodes seen."""
        return self._count

    @property
    def num_bytes(self) -> int:
        """Memory of the map and the list of nodes."""
        listed = self._count * self._numbers.itemsize
        return self._map.num_bytes + listed + self._scratch.num_bytes

    def find(self, nodes: IntArray) -> IntArray:
        """int64[n]: the records of these nodes; new nodes get one.

        Raises MachineError if there are more records than 32 bits can number.
        """
        if self._count + len(nodes) > _MAX_RECORDS:
            raise MachineError(
                f"{self._count} remote nodes were seen, more than one buffer can number",
                remedy="split the graph into more partitions",
            )
        if isinstance(self._map, HashedMap):
            self._map = self._map.with_room(len(nodes))
        found = self._scratch.empty(len(nodes))
        self._count = self._map.find(nodes, numbers=self._numbers, count=self._count, found=found)
        return found

    def is_seen(self, nodes: IntArray) -> NDArray[np.bool_]:
        """bool[n]: which of these nodes have a record; none gets one."""
        return self._map.has(nodes)

    def nodes_of(self, records: IntArray) -> IntArray:
        """int64[n]: the nodes of these records."""
        return self._numbers[records].astype(np.int64)


Directory = WholeDirectory | SeenDirectory


def make_directory(num_remote: int) -> Directory:
    """The directory that suits a graph of so many remote nodes."""
    return WholeDirectory(num_remote) if num_remote <= WHOLE_UP_TO else SeenDirectory(num_remote)
