"""Which eager fetches a run allows."""

from __future__ import annotations

from collections.abc import Iterator

from rudder.training.settings import FetchTargets
from rudder.training.workload import Workload

_BY_ID = ("ids", "hot_set")


def problem_of_targets(
    targets: FetchTargets, workload: Workload, *, capacity_rows: int
) -> Iterator[str]:
    """What is wrong with fetch targets, for a buffer of that capacity.

    Which ids are remote only the trainer knows exactly: it refuses those of its own.
    """
    if targets.row_budget > capacity_rows:
        yield (
            f"fetch_targets.row_budget = {targets.row_budget} is not allowed; allowed: 1 to"
            f" {capacity_rows} rows, the buffer's capacity; lower it"
        )
    yield from _owner(targets, workload)
    yield from _ids(targets, workload)
    if targets.source == "vip" and workload.fanouts is None:
        yield (
            "fetch_targets.source = vip needs fan-outs, which this sampler does not have;"
            " use observed or degree"
        )


def _owner(targets: FetchTargets, workload: Workload) -> Iterator[str]:
    owner = targets.owner
    if targets.source != "owner":
        if owner is not None:
            yield "fetch_targets.owner goes with the source owner only; leave it out"
    elif owner is None or owner == workload.part or not 0 <= owner < workload.num_parts:
        yield (
            f"fetch_targets.owner = {owner} is not another partition; allowed: 0 to"
            f" {workload.num_parts - 1} but {workload.part}"
        )


def _ids(targets: FetchTargets, workload: Workload) -> Iterator[str]:
    if targets.source not in _BY_ID:
        if targets.ids:
            yield "fetch_targets.ids go with the sources ids and hot_set only; leave them out"
        return
    if not targets.ids:
        yield f"fetch_targets.source = {targets.source} needs ids; give at least one"
    num_nodes = workload.num_inner + workload.num_remote
    wrong = next((node for node in targets.ids if not 0 <= node < num_nodes), None)
    if wrong is not None:
        yield (
            f"fetch_targets.ids has {wrong}; allowed: global ids of remote nodes, 0 to"
            f" {num_nodes - 1}"
        )
