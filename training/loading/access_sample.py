"""Which accesses a window shows to a controller: those of nodes whose hash is below a rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rudder.training.compiled import compiled, inlined
from rudder.training.metrics import NodeArray
from rudder.training.partition_view import IntArray, PartitionView

WANTED_NODES = 8192
"""Halo nodes in a sample, on average: some 1 % of error on a hit share."""
_HASH_BITS = 53
"""As many as a float has, so that a rate of 1 takes all."""
_MAX_NODE = 2**31 - 1


class AccessSample:
    """The sampled remote nodes of a run: the same ones in every batch (SHARDS, FAST 2015)."""

    def __init__(self, *, num_halo: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Sample some 8192 halo nodes, and the same share of others, while `is_wanted` says so."""
        self.rate = min(1.0, WANTED_NODES / max(num_halo, 1))
        self._limit = int(self.rate * 2**_HASH_BITS)
        self._is_wanted = is_wanted

    def choose(self, nodes: IntArray) -> NodeArray | None:
        """int32: those of the remote numbers `nodes` (int64[n]) that are sampled, in order."""
        return _choose(nodes, self._limit) if self._is_wanted() else None


NO_SAMPLE = AccessSample(num_halo=0, is_wanted=lambda: False)


def sample_of(view: PartitionView, *, policy: str, is_wanted: Callable[[], bool]) -> AccessSample:
    """A loader's sample; none without a buffer, or where remote numbers do not fit into a slice."""
    if policy == "none" or view.num_remote > _MAX_NODE:
        return NO_SAMPLE
    return AccessSample(num_halo=len(view.halo), is_wanted=is_wanted)


@inlined
def _hash(node: int) -> int:
    """The highest 53 bits of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = np.uint64(node) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11))  # type: ignore[return-value]


@compiled
def _choose(nodes: IntArray, limit: int) -> NodeArray:
    chosen = np.empty(nodes.shape[0], dtype=np.int32)
    count = 0
    for i in range(nodes.shape[0]):
        chosen[count] = nodes[i]
        count += _hash(nodes[i]) < limit
    return chosen[:count].copy()
