"""One trainer's view of the partitioned graph: who owns which node, and the local in-edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PartitionView:
    """The partition `part` of a graph whose partitions own consecutive ranges of global ids.

    starts: int64[parts + 1], partition p owns starts[p] .. starts[p + 1] - 1;
    indptr, indices: the local CSC over inner nodes (indices are local ids, inner nodes first);
    halo: int64[h], global ids of the nodes with local ids inner .. inner + h - 1;
    csc_edge_ids: int64[e] global edge ids in CSC order, or None where nobody needs them.
    """

    part: int
    starts: IntArray
    indptr: IntArray
    indices: IntArray
    halo: IntArray
    csc_edge_ids: IntArray | None = None

    @classmethod
    def of_edges(cls, *, part: int, starts: IntArray) -> PartitionView:
        """The edges of a graph in the place of its nodes: who owns which, and no structure.

        starts: int64[parts + 1], partition p owns edges starts[p] .. starts[p + 1] - 1.
        """
        none = np.empty(0, dtype=np.int64)
        return cls(part=part, starts=starts, indptr=none, indices=none, halo=none)

    @property
    def first(self) -> int:
        """Global id of the first inner node."""
        return int(self.starts[self.part])

    @property
    def last(self) -> int:
        """One past the global id of the last inner node."""
        return int(self.starts[self.part + 1])

    @property
    def num_inner(self) -> int:
        """Nodes that this partition owns."""
        return self.last - self.first

    @property
    def num_nodes(self) -> int:
        """Nodes of the whole graph."""
        return int(self.starts[-1])

    @property
    def num_remote(self) -> int:
        """Nodes of all other partitions."""
        return self.num_nodes - self.num_inner

    @cached_property
    def halo_degree(self) -> IntArray:
        """int64[h]: edges from each halo node into this partition."""
        sources = np.asarray(self.indices)
        halo_sources = sources[sources >= self.num_inner] - self.num_inner
        return np.bincount(halo_sources, minlength=len(self.halo)).astype(np.int64)

    def not_remote(self, nodes: Iterable[int]) -> list[int]:
        """Those that are not the global id of a node of another partition."""
        inner, every = range(self.first, self.last), range(self.num_nodes)
        return [node for node in nodes if node in inner or node not in every]

    def owners(self, nodes: IntArray) -> IntArray:
        """Partition of each global id."""
        return np.searchsorted(self.starts, nodes, side="right") - 1

    def to_remote(self, nodes: IntArray) -> IntArray:
        """Number remote global ids 0 .. num_remote - 1, leaving out the inner range."""
        return np.where(nodes < self.first, nodes, nodes - self.num_inner)

    def to_global(self, remote: IntArray) -> IntArray:
        """Inverse of `to_remote`."""
        return np.where(remote < self.first, remote, remote + self.num_inner)
