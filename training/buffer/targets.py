"""Which rows an eager fetch brings in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import FetchTargets


def choose_targets(
    wanted: FetchTargets,
    view: PartitionView,
    *,
    heat: NDArray[np.float32],
    absent: NDArray[np.bool_],
) -> IntArray:
    """Remote numbers to fetch, best first, at most `wanted.row_budget`, all of them `absent`.

    heat: float32[num_remote], decayed uses so far; absent: bool[num_remote], neither buffered nor
    fetched by this batch anyway.
    """
    if wanted.source == "ids":
        nodes = view.to_remote(np.array(list(dict.fromkeys(wanted.ids)), dtype=np.int64))
        return np.asarray(nodes[absent[nodes]][: wanted.row_budget])
    if wanted.source == "degree":
        halo = view.to_remote(view.halo)
        return _best(halo, view.halo_degree.astype(np.float64), absent, wanted.row_budget)
    nodes = np.flatnonzero(absent & (heat > 0))
    if wanted.source == "owner":
        nodes = nodes[view.owners(view.to_global(nodes)) == wanted.owner]
    return _best(nodes, heat[nodes].astype(np.float64), absent, wanted.row_budget)


def _best(
    nodes: IntArray, worth: NDArray[np.float64], absent: NDArray[np.bool_], budget: int
) -> IntArray:
    open_ = absent[nodes] & (worth > 0)
    nodes, worth = nodes[open_], worth[open_]
    if len(nodes) > budget:
        chosen = np.argpartition(-worth, budget)[:budget]
        nodes, worth = nodes[chosen], worth[chosen]
    return nodes[np.argsort(-worth, kind="stable")]
