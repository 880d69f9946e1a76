"""Which rows an eager fetch requests, and how likely each halo node is needed (VIP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.directory import Directory
from rudder.training.compiled import compiled
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.settings import FetchTargets

FloatArray = NDArray[np.float64]
_ALMOST_SURE = 1 - 1e-9
_BY_ID = ("ids", "hot_set")
_LIKELY_USES = 0.5
"""Expected uses in an epoch from which on VIP fetches a row while the loader is idle: most of these
rows are needed within two epochs."""


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
    """VIP: the probability that a batch needs each halo node, computed from the graph alone.

    After SALIENT++ (Kaler et al., arXiv 2305.03152, section 3). A node u in a batch draws each of
    its in-neighbours with probability min(1, fanout / degree(u)), in every following layer, as in
    DGL's blocks; this gives the probability that each node is reached. Approximations, because only
    one partition is known: edges of halo nodes are unknown, so nothing is reached through them, and
    nodes outside the halo get 0; seeds are assumed to be drawn uniformly; whether a node is in the
    batch, and what it draws, is assumed to be independent of other nodes.

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
    def of_likely(self) -> FloatArray:
        """float64[h]: the same; 0 for nodes that an epoch hardly needs."""
        batches = self._num_seeds / max(self.batch_size, 1)
        return np.where(self.of_halo * batches >= _LIKELY_USES, self.of_halo, 0.0)

    @property
    def _num_seeds(self) -> int:
        return self.view.num_inner if self.seeds is None else len(self.seeds)

    @property
    def _inner_seeds(self) -> IntArray:
        view = self.view
        if self.seeds is None:
            return np.arange(view.num_inner)
        inner = self.seeds[(self.seeds >= view.first) & (self.seeds < view.last)]
        return np.asarray(inner - view.first)

    @property
    def _log_absent_of_a_seed(self) -> float:
        share = self.batch_size / max(self._num_seeds, 1)
        return float(np.log1p(-min(share, _ALMOST_SURE)))


def choose_all(
    pending: Sequence[FetchTargets],
    view: PartitionView,
    directory: Directory,
    *,
    heat: NDArray[np.float32],
    blocked: NDArray[np.bool_],
    vip: InclusionProbability | None = None,
) -> IntArray:
    """Records of the rows that several eager fetches request, each once, none of them `blocked`.

    heat: float32[records], decayed uses so far; blocked: bool[records], rows that are buffered or
    fetched by this batch anyway; vip: needed for the source of that name. Rows that are chosen have
    records from now on.
    """
    targets = np.empty(0, dtype=np.int64)
    for wanted in pending:
        nodes = choose_targets(wanted, view, directory, heat=heat, blocked=blocked, vip=vip)
        more = directory.find(nodes)
        num_new = len(directory) - len(heat)
        heat = np.append(heat, np.zeros(num_new, dtype=np.float32))
        blocked = np.append(blocked, np.zeros(num_new, dtype=bool))
        blocked[more] = True
        targets = np.concatenate([targets, more])
    return targets


def choose_targets(
    wanted: FetchTargets,
    view: PartitionView,
    directory: Directory,
    *,
    heat: NDArray[np.float32],
    blocked: NDArray[np.bool_],
    vip: InclusionProbability | None = None,
) -> IntArray:
    """Remote numbers to fetch for one request, best first, at most `wanted.row_budget`."""
    if wanted.source in _BY_ID:
        nodes = view.to_remote(np.array(list(dict.fromkeys(wanted.ids)), dtype=np.int64))
        return np.asarray(nodes[_is_open(nodes, directory, blocked)][: wanted.row_budget])
    if wanted.source in ("degree", "vip"):
        worth = halo_worth(wanted.source, view, vip)
        if wanted.while_idle and wanted.source == "vip" and vip is not None:
            worth = vip.of_likely
        nodes = view.to_remote(view.halo)
        open_ = _is_open(nodes, directory, blocked)
        return _best(nodes[open_], worth[open_], wanted.row_budget)
    records = np.flatnonzero(~blocked & (heat > 0))
    nodes = directory.nodes_of(records)
    order = np.argsort(nodes)
    nodes, worth = nodes[order], heat[records[order]].astype(np.float64)
    if wanted.source == "owner":
        is_its = view.owners(view.to_global(nodes)) == wanted.owner
        nodes, worth = nodes[is_its], worth[is_its]
    return _best(nodes, worth, wanted.row_budget)


def _is_open(
    nodes: IntArray, directory: Directory, blocked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """bool[n]: which nodes are not blocked."""
    is_seen = directory.is_seen(nodes)
    is_open = ~is_seen
    is_open[is_seen] = ~blocked[directory.find(nodes[is_seen])]
    return is_open


def halo_worth(source: str, view: PartitionView, vip: InclusionProbability | None) -> FloatArray:
    """float64[h]: worth of each halo node by `degree` or by `vip`."""
    if source == "degree":
        return view.halo_degree.astype(np.float64)
    assert vip is not None
    return vip.of_halo


def refusal_of_targets(
    wanted: FetchTargets, view: PartitionView, *, vip: InclusionProbability | None
) -> str | None:
    """Why such rows cannot be fetched; None if they can."""
    if wanted.source == "owner":
        parts = len(view.starts) - 1
        if wanted.owner is None or wanted.owner >= parts or wanted.owner == view.part:
            return (
                f"fetch_targets.owner = {wanted.owner} is not another partition;"
                f" allowed: 0 to {parts - 1} without {view.part}"
            )
    if wanted.source in _BY_ID:
        wrong = view.not_remote(wanted.ids)
        if wrong or not wanted.ids:
            found = f"these are not: {wrong[:3]}" if wrong else "there are none"
            if wanted.source == "hot_set" and not wrong:
                return "no hot set of an earlier run on the same work is known; use vip"
            return f"fetch_targets.ids must be remote nodes of this graph; {found}"
    if wanted.source == "vip" and vip is None:
        return "fetch_targets.source = vip needs fan-outs, which this sampler does not have"
    return None


def _best(nodes: IntArray, worth: NDArray[np.float64], budget: int) -> IntArray:
    useful = worth > 0
    nodes, worth = nodes[useful], worth[useful]
    if len(nodes) > budget:
        chosen = np.argpartition(-worth, budget)[:budget]
        nodes, worth = nodes[chosen], worth[chosen]
    return nodes[np.argsort(-worth, kind="stable")]
