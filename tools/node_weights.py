"""A number for each of many node ids, looked up by hash in compiled loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled, inlined

Floats = NDArray[np.float64]
_FREE = -1
_MIN_SIZE = 1024
_GOLDEN = 0x9E3779B97F4A7C15
"""Fibonacci hashing, Knuth, The Art of Computer Programming, vol. 3, 6.4."""


class NodeWeights:
    """A weight of every node, 0 at first."""

    def __init__(self) -> None:
        self._ids = np.full(_MIN_SIZE, _FREE, dtype=np.int64)
        self._weights = np.zeros(_MIN_SIZE)
        self._num_nodes = 0

    def add(self, nodes: IntArray, weight: float) -> None:
        """Add to the weight of each of int64[n] ids."""
        if 2 * (self._num_nodes + len(nodes)) > len(self._ids):
            self._grow(_size_for(self._num_nodes + len(nodes)))
        self._num_nodes += _add(self._ids, self._weights, nodes, weight)

    def put(self, nodes: IntArray, weights: Floats) -> None:
        """Begin anew with these weights: float64[n] of int64[n] distinct ids."""
        size = _size_for(len(nodes))
        self._ids = np.full(size, _FREE, dtype=np.int64)
        self._weights = np.zeros(size)
        self._num_nodes = len(nodes)
        _put(self._ids, self._weights, nodes, weights)

    @property
    def nodes(self) -> IntArray:
        """int64[n]: all that were added to, in order."""
        return np.sort(self._ids[self._ids != _FREE])

    def divide(self, by: float) -> None:
        """Divide all weights."""
        self._weights /= by

    def of(self, nodes: IntArray) -> Floats:
        """float64[n] weights of int64[n] ids."""
        return _weights_of(self._ids, self._weights, nodes)

    def _grow(self, size: int) -> None:
        is_used = self._ids != _FREE
        nodes, weights = self._ids[is_used], self._weights[is_used]
        self._ids = np.full(size, _FREE, dtype=np.int64)
        self._weights = np.zeros(size)
        _put(self._ids, self._weights, nodes, weights)


def _size_for(num_nodes: int) -> int:
    """A power of two, of which so many nodes take a half at most."""
    return int(max(_MIN_SIZE, 2 ** (2 * num_nodes - 1).bit_length()))


@inlined
def _place(ids: IntArray, node: int) -> np.uint64:
    """Where a node is, or would be."""
    mask = np.uint64(ids.shape[0] - 1)
    mixed = np.uint64(node) * np.uint64(_GOLDEN)
    place = (mixed >> np.uint64(32)) & mask
    while ids[place] != node and ids[place] != _FREE:
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def _add(ids: IntArray, weights: Floats, nodes: IntArray, weight: float) -> int:
    """Returns how many nodes are new."""
    count = 0
    for node in nodes:
        place = _place(ids, node)
        count += int(ids[place] == _FREE)
        ids[place] = node
        weights[place] += weight
    return count


@compiled
def _put(ids: IntArray, weights: Floats, nodes: IntArray, new: Floats) -> None:
    for i in range(nodes.shape[0]):
        place = _place(ids, nodes[i])
        ids[place] = nodes[i]
        weights[place] = new[i]


@compiled
def _weights_of(ids: IntArray, weights: Floats, nodes: IntArray) -> Floats:
    found = np.empty(nodes.shape[0])
    for i in range(nodes.shape[0]):
        place = _place(ids, nodes[i])
        found[i] = 0.0 if ids[place] == _FREE else weights[place]
    return found
