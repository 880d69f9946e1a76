"""Uses of nodes in batches that are no longer kept, as the lookahead policy knows of them still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import HALF_LIFE_BATCHES, IntArray

HEAT_GROWTH = 2.0 ** (1.0 / HALF_LIFE_BATCHES)
"""By which a use weighs more than one a batch before."""
_MAX_WEIGHT = 2.0**512
_MAX_WAITING = 64


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


class PastUses:
    """Sums up the uses of batches that leave the history.

    total: the sum of a node used in every batch; weight: of a use in the next batch.
    """

    def __init__(
        self,
        nodes: IntArray | None = None,
        sums: NDArray[np.float64] | None = None,
        *,
        total: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        """What was added up before: int64[n] distinct nodes in order, float64[n] sums of their
        uses."""
        self._nodes = np.empty(0, dtype=np.int64) if nodes is None else nodes
        self._sums = np.empty(0) if sums is None else sums
        self.total, self.weight = total, weight
        self._waiting: list[tuple[IntArray, float]] = []

    @property
    def nodes(self) -> IntArray:
        """int64[n]: all that were used, in order."""
        self._add_up()
        return self._nodes

    @property
    def sums(self) -> NDArray[np.float64]:
        """float64[n]: of the uses of each of the nodes."""
        self._add_up()
        return self._sums

    def add(self, nodes: IntArray) -> None:
        """Count the uses of one batch: int64[n], distinct."""
        self._waiting.append((nodes, self.weight))
        if len(self._waiting) >= _MAX_WAITING:
            self._add_up()
        self.total += self.weight
        self.weight *= HEAT_GROWTH
        if self.weight > _MAX_WEIGHT:
            self._sums = self.sums / self.weight
            self.total, self.weight = self.total / self.weight, 1.0

    def heat(self, nodes: IntArray) -> Heat:
        """Of these nodes, as the next batch after those added finds it."""
        known, sums = np.append(self.nodes, -1), np.append(self.sums, 0.0)
        places = np.searchsorted(known[:-1], nodes)
        found = np.where(known[places] == nodes, sums[places], 0.0) / self.weight
        return Heat(found.astype(np.float32), self.total / self.weight)

    def _add_up(self) -> None:
        """Batch after batch, so that sums do not depend on when this is done."""
        if not self._waiting:
            return
        added = [nodes for nodes, _ in self._waiting]
        weights = [np.full(len(nodes), weight) for nodes, weight in self._waiting]
        self._waiting.clear()
        joined = np.concatenate([self._nodes, *added])
        self._nodes, places = np.unique(joined, return_inverse=True)
        counted = np.bincount(places, np.concatenate([self._sums, *weights]))
        self._sums = counted.astype(np.float64)
