"""VIP: the probability that a batch needs each halo node, computed from the graph alone.

After SALIENT++ (Kaler et al., arXiv 2305.03152, section 3). A node u in a batch draws each of its
in-neighbours with probability min(1, fanout / degree(u)), in every following layer, as in DGL's
blocks; this gives the probability that each node is reached. Approximations, because only one
partition is known: edges of halo nodes are unknown, so nothing is reached through them, and nodes
outside the halo get 0; seeds are assumed to be drawn uniformly; whether a node is in the batch, and
what it draws, is assumed to be independent of other nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rudder.training.compiled import compiled
from rudder.training.partition_view import IntArray, PartitionView

FloatArray = NDArray[np.float64]
_ALMOST_SURE = 1 - 1e-9


@compiled
def spread(
    indptr: IntArray, indices: IntArray, fanout: int, present: FloatArray, drawn: FloatArray,
    log_absent: FloatArray,
) -> None:  # fmt: skip
    """Draw one layer: update the log probability that each node is not reached.

    indptr, indices: local CSC over inner nodes; fanout: -1 takes all neighbours; present:
    float64[inner], probability of being in the batch before; drawn: float64[inner], probability
    that a given edge into the node was drawn, updated; log_absent: float64[local], updated.
    """
    for u in range(indptr.shape[0] - 1):
        degree = indptr[u + 1] - indptr[u]
        if degree == 0 or present[u] == 0.0:
            continue
        share = 1.0 if fanout < 0 or fanout >= degree else fanout / degree
        drawn[u] += (present[u] - drawn[u]) * share
        change = np.log1p(-drawn[u])
        for edge in range(indptr[u], indptr[u + 1]):
            log_absent[indices[edge]] += change


@dataclass(frozen=True)
class InclusionProbability:
    """The probabilities of a partition's halo nodes, computed at the first use.

    fanouts: input layer first, as in DGL; seeds: int64 global ids, of which only inner nodes count;
    None: all inner nodes are seeds.
    """

    view: PartitionView
    fanouts: tuple[int, ...]
    batch_size: int
    seeds: IntArray | None = None

    @cached_property
    def of_halo(self) -> FloatArray:
        """float64[h]: probability that one batch needs each halo node."""
        view = self.view
        indptr = np.asarray(view.indptr, dtype=np.int64)
        indices = np.asarray(view.indices, dtype=np.int64)
        before = np.zeros(view.num_inner + len(view.halo))
        before[self._inner_seeds] = self._log_absent_of_a_seed
        log_absent, drawn = before, np.zeros(view.num_inner)
        for fanout in reversed(self.fanouts):
            present = np.minimum(-np.expm1(log_absent[: view.num_inner]), _ALMOST_SURE)
            log_absent = before.copy()
            spread(indptr, indices, fanout, present, drawn, log_absent)
        return np.asarray(-np.expm1(log_absent[view.num_inner :]))

    @property
    def _inner_seeds(self) -> IntArray:
        view = self.view
        if self.seeds is None:
            return np.arange(view.num_inner)
        inner = self.seeds[(self.seeds >= view.first) & (self.seeds < view.last)]
        return np.asarray(inner - view.first)

    @property
    def _log_absent_of_a_seed(self) -> float:
        num_seeds = self.view.num_inner if self.seeds is None else len(self.seeds)
        share = self.batch_size / max(num_seeds, 1)
        return float(np.log1p(-min(share, _ALMOST_SURE)))
