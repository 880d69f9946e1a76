"""Made-up access streams with known properties, for trying decisions without a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class AccessTrace(Protocol):
    """The remote numbers that each batch of one trainer uses."""

    @property
    def num_remote(self) -> int:
        """Nodes of other partitions."""

    def batch(self, number: int) -> IntArray:
        """int64[n], distinct: the nodes of batch `number`, the same whenever it is asked for."""


@dataclass(frozen=True)
class ZipfStream:
    """Each batch draws `draws` nodes of unequal popularity, rank ** -exponent, with replacement.

    phase_batches: after so many batches other nodes become popular, None: never.
    """

    num_remote: int = 20_000
    draws: int = 2_000
    exponent: float = 0.8
    phase_batches: int | None = None
    seed: int = 0

    def batch(self, number: int) -> IntArray:
        """int64[n], sorted."""
        rng = np.random.default_rng((self.seed, number))
        ranks = np.searchsorted(self._cumulated, rng.random(self.draws))
        phase = 0 if self.phase_batches is None else number // self.phase_batches
        return np.asarray(np.unique(self._names(phase)[ranks]))

    def _names(self, phase: int) -> IntArray:
        """Which nodes are popular in a phase, the most popular first."""
        known = self._known_names
        if phase not in known:
            known.clear()
            rng = np.random.default_rng((self.seed, 1 << 32, phase))
            known[phase] = rng.permutation(self.num_remote).astype(np.int64)
        return known[phase]

    @cached_property
    def _known_names(self) -> dict[int, IntArray]:
        return {}

    @cached_property
    def _cumulated(self) -> NDArray[np.float64]:
        weights = np.arange(1, self.num_remote + 1, dtype=np.float64) ** -self.exponent
        return np.asarray(np.cumsum(weights) / weights.sum())
