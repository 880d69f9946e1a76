"""Estimates how often nodes will be used, those included that were never used so far.

Uses of a node are taken to be a Poisson process whose rate is gamma-distributed over nodes (Good,
Biometrika 1953, on the population of species), with as many nodes in all as there are: then the
share of them that was used tells the shape, and their uses what to think of each one's rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
_LEAST_SHAPE, _MOST_SHAPE = 0.02, 50.0
_MOST_OFTEN = 0.999
_NEARLY_ALL = 0.95
_GOLDEN = (5**0.5 - 1) / 2
_OFTEN, _SIGMAS = 8, 8


@dataclass(frozen=True)
class Popularity:
    """The distribution of rates in uses per batch: gamma of this shape and scale."""

    shape: float
    scale: float

    @classmethod
    def of(cls, uses: IntArray, *, num_batches: int) -> Popularity:
        """uses: int64[nodes] in so many batches, 0 of those that were not used; any above 0."""
        from scipy.special import digamma  # with scipy.optimize, half a second

        mean = float(uses.mean())
        counts, how_many = np.unique(uses, return_counts=True)
        used = 1 - float(how_many[counts == 0].sum()) / len(uses)

        def excess(log_shape: float) -> float:
            """Of nodes that would be used."""
            shape = float(np.exp(log_shape))
            return float(1 - (1 + mean / shape) ** -shape - used)

        def slope(log_shape: float) -> float:
            """Of the likelihood."""
            shape = np.exp(log_shape)
            gained = how_many @ (digamma(counts + shape) - digamma(shape))
            return float(gained + len(uses) * np.log(shape / (shape + mean)))

        shape = _root(excess if used < _NEARLY_ALL else lambda x: -slope(x))
        return cls(shape=shape, scale=mean / num_batches / shape)

    def batches_to_come(
        self, uses: IntArray, *, num_batches: int, count: int, random: np.random.Generator
    ) -> tuple[IntArray, IntArray]:
        """So many batches after num_batches in which nodes were used so often: (nodes int64,
        bounds int64[count + 1]), those of a batch distinct.

        Of nodes that were used equally seldom as many come once, twice and so on, and as many of
        them early, as are expected to: which ones they are is drawn. Uses to come are negative
        binomial, for a node's rate is gamma-distributed again once some are known.
        """
        past = num_batches + 1 / self.scale
        p = past / (past + count)
        order = np.lexsort((random.random(len(uses)), uses))
        edges = np.searchsorted(uses, range(_OFTEN + 1), sorter=order)
        often = order[edges[-1] :]
        spread = _spread(int(edges[-1]), random)
        to_come = np.empty(len(uses), dtype=np.int64)
        to_come[edges[-1] :] = random.negative_binomial(uses[often] + self.shape, p)
        for used, (begin, end) in enumerate(itertools.pairwise(edges)):
            to_come[begin:end] = np.searchsorted(self._cdf(used, p), spread[begin:end])
        alike = np.argsort(to_come, kind="stable")
        return _placed(order[alike], to_come[alike], count=count, random=random)

    def _cdf(self, used: int, p: float) -> Floats:
        """Of the uses to come of a node that was used so often."""
        size = used + self.shape
        mean = size * (1 - p) / p
        k = np.arange(int(mean + _SIGMAS * np.sqrt(mean / p)) + _SIGMAS)
        steps = np.log((size + k) / (k + 1) * (1 - p))
        return np.cumsum(np.exp(size * np.log(p) + np.cumsum(np.concatenate([[0.0], steps]))))


def _root(rising: Callable[[float], float]) -> float:
    """The shape at which a rising function of its logarithm is 0, or the nearest one."""
    from scipy.optimize import brentq

    low, high = np.log(_LEAST_SHAPE), np.log(_MOST_SHAPE)
    if rising(low) >= 0:
        return _LEAST_SHAPE
    if rising(high) <= 0:
        return _MOST_SHAPE
    return float(np.exp(brentq(rising, low, high, xtol=1e-3)))


def _spread(count: int, random: np.random.Generator) -> Floats:
    """float64[count] from 0 to 1: each stretch of them is spread out evenly (Weyl's sequence)."""
    return (random.random() + _GOLDEN * np.arange(count)) % 1.0


def _placed(
    nodes: IntArray, uses: IntArray, *, count: int, random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Batches in which each node is used at random, so often; like nodes side by side."""
    share = np.minimum(uses / count, _MOST_OFTEN)
    uses = np.round(-np.log1p(-share) * count).astype(np.int64)  # what comes twice is there once
    nodes, uses = nodes[uses > 0], uses[uses > 0]
    first: Floats = -np.expm1(np.log1p(-_spread(len(nodes), random)) / uses)  # the least of them
    chances = random.random(int((uses - 1).sum()), dtype=np.float32)
    return _sorted_by_batch(nodes, uses, first, chances, count)


@compiled
def _sorted_by_batch(
    nodes: IntArray, uses: IntArray, first: Floats, chances: Singles, count: int
) -> tuple[IntArray, IntArray]:
    """first: 0 to 1, when each node comes first; chances: 0 to 1, of its other uses, when between
    then and the end. A batch holds each node once."""
    batches = np.empty(len(nodes) + len(chances), dtype=np.int32)
    latest = np.full(count, -1, dtype=np.int64)
    bounds = np.zeros(count + 1, dtype=np.int64)
    place = 0
    for i in range(len(nodes)):
        for j in range(uses[i]):
            time = first[i] if j == 0 else first[i] + chances[place - i - 1] * (1 - first[i])
            batch = min(int(time * count), count - 1)
            is_new = latest[batch] != i
            latest[batch] = i
            bounds[batch + 1] += is_new
            batches[place] = batch if is_new else -1
            place += 1
    bounds = np.cumsum(bounds)
    free = bounds.copy()
    found = np.empty(bounds[-1], dtype=np.int64)
    place = 0
    for i in range(len(nodes)):
        for _ in range(uses[i]):
            batch = batches[place]
            place += 1
            if batch >= 0:
                found[free[batch]] = nodes[i]
                free[batch] += 1
    return found, bounds
