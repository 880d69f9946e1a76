"""Drawn edges that a batch must not get: those to predict, their reverses, and held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.partition_view import IntArray
from rudder.training.sampling.edge_split import EdgeSplit


@dataclass(frozen=True)
class EdgeFilter:
    """What is dropped of the in-edges drawn for one batch.

    ids: int64[m] ids of edges, ascending; num_ends: only edges into so many nodes at the beginning
    of a layer can be among them; pairs: int64[m], ascending, `pair_keys` of ends; split: drops
    edges that are not of its training set.
    """

    num_nodes: int
    ids: IntArray | None = None
    num_ends: int | None = None
    pairs: IntArray | None = None
    split: EdgeSplit | None = None

    def keeps(
        self, frontier: IntArray, counts: IntArray, sources: IntArray, edge_ids: IntArray | None
    ) -> NDArray[np.bool_]:
        """bool[e] for the edges of a layer, grouped by destination.

        frontier: int64[n] destinations; counts: int64[n] edges of each; edge_ids: where there are
        `ids`.
        """
        kept = np.ones(len(sources), dtype=np.bool_)
        checked = slice(None if self.num_ends is None else int(counts[: self.num_ends].sum()))
        if self.ids is not None:
            assert edge_ids is not None
            kept[checked] = ~_among(edge_ids[checked], self.ids)
        if self.pairs is not None or self.split is not None:
            destinations = np.repeat(frontier, counts)
            if self.pairs is not None:
                keys = pair_keys(sources[checked], destinations[checked], self.num_nodes)
                kept[checked] &= ~_among(keys, self.pairs)
            if self.split is not None:
                kept &= self.split.is_in("train", sources, destinations)
        return kept


def pair_keys(sources: IntArray, destinations: IntArray, num_nodes: int) -> IntArray:
    """A number for each pair of nodes, the same for both directions; below 3 * 10**9 nodes."""
    low, high = np.minimum(sources, destinations), np.maximum(sources, destinations)
    return np.asarray(low * num_nodes + high)


def _among(values: IntArray, ascending: IntArray) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.searchsorted(ascending, values)
    return np.asarray(ascending[np.minimum(places, len(ascending) - 1)] == values)
