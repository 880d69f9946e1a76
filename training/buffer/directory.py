"""Which record belongs to which remote node; compiled loops work on the numbers of records."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.seen import SeenDirectory

WHOLE_UP_TO = 2**22
"""Remote nodes of a graph small enough to have a record each: 64 MB of them at most."""


class Directory(Protocol):
    """Numbers the records of remote nodes 0, 1, ..."""

    def __len__(self) -> int:
        """Records so far."""

    @property
    def num_bytes(self) -> int:
        """Memory of what leads from a node to its record and back."""

    def find(self, nodes: IntArray) -> IntArray:
        """int64[n]: the records of these nodes, int64[n], which have one each from now on."""

    def is_seen(self, nodes: IntArray) -> NDArray[np.bool_]:
        """bool[n]: which of these nodes have a record; none gets one."""

    def nodes_of(self, records: IntArray) -> IntArray:
        """int64[n]: the nodes of these records."""


class WholeDirectory:
    """Every node has a record, of its own number: nothing to look up."""

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


def make_directory(num_remote: int) -> Directory:
    """What suits a graph of so many remote nodes."""
    return WholeDirectory(num_remote) if num_remote <= WHOLE_UP_TO else SeenDirectory(num_remote)
