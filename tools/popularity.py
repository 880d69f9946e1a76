"""How often nodes will be used, from how often they were: those that were never used included.

Uses of a node are taken to be a Poisson process whose rate is gamma-distributed over nodes (Good,
Biometrika 1953, on the population of species), with as many nodes in all as there are: then the
share of them that was used tells the shape, and their uses what to think of each one's rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma

from rudder.training.buffer.policy import IntArray

_LEAST_SHAPE, _MOST_SHAPE = 0.02, 50.0
_MOST_OFTEN = 0.999
_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Popularity:
    """The distribution of rates in uses per batch: gamma of this shape and scale."""

    shape: float
    scale: float

    @classmethod
    def of(cls, uses: IntArray, *, num_batches: int) -> Popularity:
        """uses: int64[nodes] in so many batches, 0 of those that were not used; any above 0."""
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

    def rates(
        self, uses: IntArray, *, num_batches: int, random: np.random.Generator
    ) -> NDArray[np.float64]:
        """float64[nodes]: one draw of each node's rate, given its uses in so many batches."""
        return random.gamma(uses + self.shape, 1 / (num_batches + 1 / self.scale))


def _root(rising: Callable[[float], float]) -> float:
    """The shape at which a rising function of its logarithm is 0, or the nearest one."""
    low, high = np.log(_LEAST_SHAPE), np.log(_MOST_SHAPE)
    if rising(low) >= 0:
        return _LEAST_SHAPE
    if rising(high) <= 0:
        return _MOST_SHAPE
    return float(np.exp(brentq(rising, low, high, xtol=1e-3)))


def draw_batches(
    rates: NDArray[np.float64], *, num_batches: int, random: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Batches to come: (nodes int64, bounds int64[batches + 1]), those of a batch distinct.

    rates: float64[nodes], the share of batches that each is in.
    """
    draws = -np.log1p(-np.minimum(rates, _MOST_OFTEN))  # what is drawn twice is there once
    uses = random.poisson(draws * num_batches)
    nodes = np.repeat(np.arange(len(rates)), uses)
    batches = random.integers(0, num_batches, len(nodes))
    keys = np.unique(batches * len(rates) + nodes)
    bounds = np.searchsorted(keys, np.arange(num_batches + 1) * len(rates))
    return keys % len(rates), bounds.astype(np.int64)
