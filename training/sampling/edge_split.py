"""Which edges are held out for validation and test, decided by a hash of their ends.

So every process knows the set of every edge without a table and without asking, and an edge and its
reverse are always in the same set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rudder.training.errors import ConfigError
from rudder.training.partition_view import IntArray

EdgeSet = Literal["train", "val", "test"]
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class EdgeSplit:
    """Edges held out at random; val, test: shares of all edges, 0 to 1 together."""

    seed: int = 0
    val: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share <= 1 or self.val + self.test > 1:
                raise ConfigError.for_field(
                    f"EdgeSplit.{name}", value=share, allowed="0 to 1, val and test together"
                )

    def is_in(
        self, edge_set: EdgeSet, sources: IntArray, destinations: IntArray
    ) -> NDArray[np.bool_]:
        """bool[n]: whether edges between int64[n] node ids are in a set."""
        draw = self._draw(sources, destinations)
        if edge_set == "test":
            return draw < self.test
        is_held_out = draw < self.test + self.val
        return ~is_held_out if edge_set == "train" else is_held_out & (draw >= self.test)

    def _draw(self, sources: IntArray, destinations: IntArray) -> NDArray[np.float64]:
        """A number from 0 to 1 for each edge, by SplitMix64's hash."""
        low = np.minimum(sources, destinations).astype(np.uint64)
        high = np.maximum(sources, destinations).astype(np.uint64)
        return _mixed(_mixed(low + np.uint64(self.seed)) ^ high) / 2.0**64


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = state + np.uint64(0x9E3779B97F4A7C15)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        z = (z ^ (z >> np.uint64(shift))) * multiplier
    return z ^ (z >> np.uint64(31))
