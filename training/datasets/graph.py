"""A graph to train on, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FeatureArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

UNLABELLED = -1
"""Label of a node that has none; allowed only where the node is in no split."""


@dataclass(frozen=True, eq=False)
class Graph:
    """N nodes, E directed edges; a node learns from the `src` of the edges that point at it.

    src, dst: int64[E], node ids from 0 to N - 1. features: a float dtype, [N, F].
    labels: int64[N] classes; float32[N, C] of zeros and ones if `multilabel`; or float32[N] numbers
    to predict, NaN for none, which have no classes (num_classes 0).
    train_mask, val_mask, test_mask: bool[N], without overlap.
    weight: float32[E] from 0, or None; neighbours may be drawn in proportion to it.
    seed_phase: int64[N] or None; a trainer visits its training nodes in ascending phase.
    source: what a manifest should tell about where the graph comes from.
    """

    name: str
    src: IntArray
    dst: IntArray
    features: FeatureArray
    labels: IntArray | NDArray[np.float32]
    train_mask: BoolArray
    val_mask: BoolArray
    test_mask: BoolArray
    num_classes: int
    multilabel: bool = False
    weight: NDArray[np.float32] | None = None
    seed_phase: IntArray | None = None
    source: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.features)

    @property
    def num_edges(self) -> int:
        """E; an edge in both directions counts twice."""
        return len(self.src)

    @property
    def feature_dim(self) -> int:
        """F."""
        return int(self.features.shape[1])

    @property
    def masks(self) -> dict[str, BoolArray]:
        """The three splits by the name they have in DistDGL's node data."""
        return {
            "train_mask": self.train_mask,
            "val_mask": self.val_mask,
            "test_mask": self.test_mask,
        }

    def with_reverse_edges(self) -> Graph:
        """The same graph with every edge in both directions, each once; it has no weights."""
        forward = self.src * self.num_nodes + self.dst
        backward = self.dst * self.num_nodes + self.src
        keys = np.unique(np.concatenate([forward, backward]))
        return replace(self, src=keys // self.num_nodes, dst=keys % self.num_nodes)


def random_split(
    num_nodes: int, *, train: float, val: float, test: float, rng: np.random.Generator
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Three disjoint random masks, bool[num_nodes], of these fractions of all nodes."""
    order = rng.permutation(num_nodes)
    bounds = [round(num_nodes * share) for share in (train, train + val, train + val + test)]
    masks = []
    for first, last in zip([0, *bounds], bounds, strict=False):
        mask = np.zeros(num_nodes, dtype=np.bool_)
        mask[order[first:last]] = True
        masks.append(mask)
    return masks[0], masks[1], masks[2]
