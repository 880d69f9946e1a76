"""Community graphs that are drawn: degree-corrected, seeded, no loop over edges.

The model is a degree-corrected stochastic block model (Karrer and Newman 2011,
https://arxiv.org/abs/1008.3926): a node has a weight, an edge's ends are drawn by weight, and a
fixed share of the edges stays within a community.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from rudder.training.datasets.graph import FeatureArray, Graph, IntArray, random_split

PARETO_SHAPE = 1.5
MAX_ROUNDS = 50


@dataclass(frozen=True)
class Preset:
    """A synthetic graph. Fractions are of all nodes; `mean_degree` counts directed edges.

    centroid_distance: between two classes' feature centroids, in standard deviations of the
    noise. num_phases: blocks of communities that training visits one after the other.
    """

    num_nodes: int
    mean_degree: int
    feature_dim: int
    num_classes: int
    train_fraction: float
    val_fraction: float
    test_fraction: float
    num_communities: int = 64
    inside_fraction: float = 0.8
    label_noise: float = 0.1
    centroid_distance: float = 2.0
    num_phases: int = 1


PRODUCTS_S = Preset(245_000, 50, 100, 47, 0.08, 0.02, 0.10, num_communities=94)
PRESETS = {
    "tiny": Preset(20_000, 10, 32, 8, 0.30, 0.10, 0.20),
    "community-200k": Preset(200_000, 20, 128, 16, 0.30, 0.10, 0.20),
    "products-s": PRODUCTS_S,
    "reddit-s": Preset(46_000, 200, 602, 41, 0.66, 0.10, 0.24, num_communities=41),
    "papers-s": Preset(1_100_000, 29, 128, 172, 0.011, 0.001, 0.002, num_communities=344),
    "drift": Preset(**{**asdict(PRODUCTS_S), "num_phases": 4}),
}


def load_synthetic(name: str, *, seed: int) -> Graph:
    """Draw the preset `name`, a key of PRESETS; equal seeds give equal graphs."""
    return draw_graph(PRESETS[name], name=f"synthetic:{name}", seed=seed)


def draw_graph(preset: Preset, *, name: str, seed: int) -> Graph:
    """Draw a graph with the statistics of `preset`."""
    rng = np.random.default_rng(seed)
    num_nodes = preset.num_nodes
    shuffled = rng.permutation(num_nodes)
    community = np.empty(num_nodes, dtype=np.int64)
    community[shuffled] = _communities(num_nodes, preset.num_communities)
    low, high = _Sampler(preset, rng).edges()
    low, high = shuffled[low], shuffled[high]
    true_class = community % preset.num_classes
    train_mask, val_mask, test_mask = random_split(
        num_nodes,
        train=preset.train_fraction,
        val=preset.val_fraction,
        test=preset.test_fraction,
        rng=rng,
    )
    return Graph(
        name=name,
        src=np.concatenate([low, high]),
        dst=np.concatenate([high, low]),
        features=_features(true_class, preset, rng),
        labels=_noisy(true_class, preset, rng),
        train_mask=train_mask,
        val_mask=val_mask,
        test_mask=test_mask,
        num_classes=preset.num_classes,
        seed_phase=_phases(community, preset, rng),
        source={"generator": "degree-corrected communities", **asdict(preset)},
    )


def _communities(num_nodes: int, num_communities: int) -> IntArray:
    return np.arange(num_nodes, dtype=np.int64) * num_communities // num_nodes


def _features(
    classes: IntArray, preset: Preset, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    scale = preset.centroid_distance / np.sqrt(2 * preset.feature_dim)
    shape = (preset.num_classes, preset.feature_dim)
    centroids = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
    features = rng.standard_normal((len(classes), preset.feature_dim), dtype=np.float32)
    features += centroids[classes]
    return features


def _noisy(classes: IntArray, preset: Preset, rng: np.random.Generator) -> IntArray:
    random_classes = rng.integers(0, preset.num_classes, len(classes))
    return np.where(rng.random(len(classes)) < preset.label_noise, random_classes, classes)


def _phases(community: IntArray, preset: Preset, rng: np.random.Generator) -> IntArray | None:
    if preset.num_phases == 1:
        return None
    place = rng.permutation(preset.num_communities)
    return np.asarray(place[community] * preset.num_phases // preset.num_communities)


class _Sampler:
    """Draws undirected edges between nodes whose ids are sorted by community."""

    def __init__(self, preset: Preset, rng: np.random.Generator) -> None:
        self._preset = preset
        self._rng = rng
        self._community = _communities(preset.num_nodes, preset.num_communities)
        weights = np.minimum(
            rng.pareto(PARETO_SHAPE, preset.num_nodes) + 1, np.sqrt(preset.num_nodes)
        )
        self._upto = np.cumsum(weights)
        bounds = np.searchsorted(self._community, np.arange(preset.num_communities + 1))
        edges_of_weight = np.concatenate([[0.0], self._upto])[bounds]
        self._first_weight, self._last_weight = edges_of_weight[:-1], edges_of_weight[1:]

    def edges(self) -> tuple[IntArray, IntArray]:
        """Both ends of the edges; no loop, no edge twice, no node without an edge."""
        num_edges = self._preset.num_nodes * self._preset.mean_degree // 2
        num_inside = round(num_edges * self._preset.inside_fraction)
        inside = self._distinct(self._draw_inside, num_inside)
        outside = self._distinct(self._draw_outside, num_edges - num_inside)
        return self._ends(np.concatenate([inside, outside, self._of_isolated(inside, outside)]))

    def _by_weight(
        self, lowest: FeatureArray | float, highest: FeatureArray | float, num: int
    ) -> IntArray:
        at = lowest + self._rng.random(num) * (highest - lowest)
        return np.minimum(np.searchsorted(self._upto, at), len(self._upto) - 1)

    def _anywhere(self, num: int) -> IntArray:
        return self._by_weight(0.0, float(self._upto[-1]), num)

    def _inside(self, community: IntArray) -> IntArray:
        return self._by_weight(
            self._first_weight[community], self._last_weight[community], len(community)
        )

    def _draw_inside(self, num: int) -> IntArray:
        one = self._anywhere(num)
        return self._keys(one, self._inside(self._community[one]))

    def _draw_outside(self, num: int) -> IntArray:
        one, other = self._anywhere(num), self._anywhere(num)
        apart = self._community[one] != self._community[other]
        return self._keys(one[apart], other[apart])

    def _of_isolated(self, *keys: IntArray) -> IntArray:
        """One edge for each node that drew none: to a node of its community drawn by weight."""
        has_edge = np.zeros(self._preset.num_nodes, dtype=np.bool_)
        for some in keys:
            low, high = self._ends(some)
            has_edge[low] = has_edge[high] = True
        isolated = np.flatnonzero(~has_edge)
        drawn = self._inside(self._community[isolated])
        next_id = (isolated + 1) % self._preset.num_nodes
        return np.unique(self._keys(isolated, np.where(drawn == isolated, next_id, drawn)))

    def _distinct(self, draw: Callable[[int], IntArray], num: int) -> IntArray:
        """`num` different keys; a few less where a community is too small to hold as many."""
        keys = np.empty(0, dtype=np.int64)
        for _ in range(MAX_ROUNDS):
            if len(keys) >= num:
                break
            keys = np.unique(np.concatenate([keys, draw(int((num - len(keys)) * 1.1) + 16)]))
        return keys if len(keys) <= num else self._rng.permutation(keys)[:num]

    def _keys(self, one: IntArray, other: IntArray) -> IntArray:
        """An id for each undirected edge that is not a loop."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        return np.asarray((low * self._preset.num_nodes + high)[low != high])

    def _ends(self, keys: IntArray) -> tuple[IntArray, IntArray]:
        return keys // self._preset.num_nodes, keys % self._preset.num_nodes
