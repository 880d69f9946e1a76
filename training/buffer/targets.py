"""Which rows an eager fetch brings in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.vip import FloatArray, InclusionProbability
from rudder.training.partition_view import PartitionView
from rudder.training.settings import FetchTargets

_BY_ID = ("ids", "hot_set")


def choose_targets(
    wanted: FetchTargets,
    view: PartitionView,
    *,
    heat: NDArray[np.float32],
    absent: NDArray[np.bool_],
    vip: InclusionProbability | None = None,
) -> IntArray:
    """Remote numbers to fetch, best first, at most `wanted.row_budget`, all of them `absent`.

    heat: float32[num_remote], decayed uses so far; absent: bool[num_remote], neither buffered nor
    fetched by this batch anyway; vip: needed for the source of that name.
    """
    if wanted.source in _BY_ID:
        nodes = view.to_remote(np.array(list(dict.fromkeys(wanted.ids)), dtype=np.int64))
        return np.asarray(nodes[absent[nodes]][: wanted.row_budget])
    if wanted.source in ("degree", "vip"):
        worth = halo_worth(wanted.source, view, vip)
        return _best(view.to_remote(view.halo), worth, absent, wanted.row_budget)
    nodes = np.flatnonzero(absent & (heat > 0))
    if wanted.source == "owner":
        nodes = nodes[view.owners(view.to_global(nodes)) == wanted.owner]
    return _best(nodes, heat[nodes].astype(np.float64), absent, wanted.row_budget)


def halo_worth(source: str, view: PartitionView, vip: InclusionProbability | None) -> FloatArray:
    """float64[h]: what the graph says of each halo node, by `degree` or by `vip`."""
    if source == "degree":
        return view.halo_degree.astype(np.float64)
    assert vip is not None
    return vip.of_halo


def refusal_of_targets(
    wanted: FetchTargets, view: PartitionView, *, vip: InclusionProbability | None
) -> str | None:
    """Why such rows cannot be fetched, or None."""
    if wanted.source == "owner":
        parts = len(view.starts) - 1
        if wanted.owner is None or wanted.owner >= parts or wanted.owner == view.part:
            return (
                f"fetch_targets.owner = {wanted.owner} is not another partition;"
                f" allowed: 0 to {parts - 1} but {view.part}"
            )
    if wanted.source in _BY_ID:
        wrong = [node for node in wanted.ids if not view.is_remote(node)]
        if wrong or not wanted.ids:
            return f"fetch_targets.ids must be remote nodes of this graph; not so: {wrong[:3]}"
    if wanted.source == "vip" and vip is None:
        return "fetch_targets.source = vip needs fan-outs, which this sampler does not have"
    return None


def _best(
    nodes: IntArray, worth: NDArray[np.float64], absent: NDArray[np.bool_], budget: int
) -> IntArray:
    open_ = absent[nodes] & (worth > 0)
    nodes, worth = nodes[open_], worth[open_]
    if len(nodes) > budget:
        chosen = np.argpartition(-worth, budget)[:budget]
        nodes, worth = nodes[chosen], worth[chosen]
    return nodes[np.argsort(-worth, kind="stable")]
