"""Uses of nodes in batches that are kept no more: what the lookahead policy knows of them still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policies.lookahead import HALF_LIFE_BATCHES
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


HEAT_GROWTH = 2.0 ** (1.0 / HALF_LIFE_BATCHES)
"""By which a use weighs more than one a batch before."""
_MAX_WEIGHT = 2.0**512


@dataclass(frozen=True)
class Heat:
    """Decayed counts of uses before a trace begins, a use in its first batch counting 1.

    of_nodes: float32[num_nodes]; total: the count of a node used in every batch so far.
    """

    of_nodes: NDArray[np.float32]
    total: float

    @classmethod
    def none(cls, num_nodes: int) -> Heat:
        """Nothing was used before."""
        return cls(np.zeros(num_nodes, dtype=np.float32), 0.0)


@dataclass(frozen=True)
class UseSums:
    """All that is known of batches that were added up.

    nodes: int64[n], distinct, in order; sums: float64[n], of each one's uses; total: of a node
    used in every batch; weight: of a use in the next batch.
    """

    nodes: IntArray
    sums: NDArray[np.float64]
    total: float
    weight: float

    @classmethod
    def none(cls) -> UseSums:
        """No batch was added."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0), total=0.0, weight=1.0)


class PastUses:
    """Sums up batches that leave the history."""

    def __init__(self, sums: UseSums | None = None) -> None:
        """sums: what was added up before; None: nothing."""
        known = sums or UseSums.none()
        self._weights = NodeWeights()
        self._weights.put(known.nodes, known.sums)
        self._total, self._weight = known.total, known.weight

    @property
    def sums(self) -> UseSums:
        """From which it can go on, to the last digit."""
        nodes = self._weights.nodes
        return UseSums(nodes, self._weights.of(nodes), self._total, self._weight)

    def add(self, nodes: IntArray) -> None:
        """Count the uses of one batch: int64[n], distinct."""
        self._weights.add(nodes, self._weight)
        self._total += self._weight
        self._weight *= HEAT_GROWTH
        if self._weight > _MAX_WEIGHT:
            self._weights.divide(self._weight)
            self._total, self._weight = self._total / self._weight, 1.0

    def heat(self, nodes: IntArray) -> Heat:
        """Of these nodes, as the next batch after those added finds it."""
        of_nodes = self._weights.of(nodes) / self._weight
        return Heat(of_nodes.astype(np.float32), self._total / self._weight)
