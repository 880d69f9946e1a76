"""Which rows an eager fetch requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.directory import Directory
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.vip import FloatArray, InclusionProbability
from rudder.training.partition_view import PartitionView
from rudder.training.settings import FetchTargets

_BY_ID = ("ids", "hot_set")


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
        wrong = [node for node in wanted.ids if not view.is_remote(node)]
        if wrong or not wanted.ids:
            found = f"these are not: {wrong[:3]}" if wrong else "there are none"
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
