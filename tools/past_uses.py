"""Uses of nodes in batches that are kept no more: what the lookahead policy knows of them still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.tools.node_weights import NodeWeights
from rudder.training.buffer.lookahead import HALF_LIFE_BATCHES
from rudder.training.buffer.policy import IntArray

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
