"""Which rows each layer of a full-neighbour inference needs, and who sends which to whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rudder.training.exchange import Exchange
from rudder.training.partition_view import IntArray
from rudder.training.shard import Shard

_CHUNK_ROWS = 2**20
_CHUNK_EDGES = 2**22


@dataclass(frozen=True)
class LayerPlan:
    """One layer on one rank; all nodes by local id.

    outputs: own nodes whose output is wanted, ascending; inputs: own nodes whose input is needed
    for that, here or on another rank, ascending, outputs among them; foreign: nodes of other ranks
    whose message is needed, rank after rank, received[r] of rank r; sent: positions in `inputs` of
    rows for others, rank after rank, num_sent[r] for rank r.
    """

    outputs: IntArray
    inputs: IntArray
    foreign: IntArray
    received: list[int]
    sent: IntArray
    num_sent: list[int]


def plan_layers(
    shard: Shard, exchange: Exchange, *, wanted: IntArray, num_layers: int
) -> list[LayerPlan]:
    """Plan from the last layer to the first; every rank calls this at the same time.

    wanted: int64[n], own nodes (local ids, ascending) whose last output is wanted. A layer's
    outputs are the next one's inputs, so nothing is computed that nobody needs.
    """
    plans: list[LayerPlan] = []
    for _ in range(num_layers):
        plan = _plan_layer(shard, exchange, outputs=wanted)
        plans.insert(0, plan)
        wanted = plan.inputs
    return plans


def _plan_layer(shard: Shard, exchange: Exchange, *, outputs: IntArray) -> LayerPlan:
    is_needed = _sources(shard, outputs)
    foreign, received = _foreign(shard, exchange, is_needed)
    requested, num_sent = _requests(shard, exchange, foreign, received)
    is_needed[outputs] = True
    is_needed[requested] = True
    inputs = shard.first + np.flatnonzero(is_needed[shard.first : shard.last])
    return LayerPlan(
        outputs=outputs,
        inputs=inputs,
        foreign=foreign,
        received=received,
        sent=np.searchsorted(inputs, requested),
        num_sent=num_sent,
    )


def _sources(shard: Shard, outputs: IntArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool[local nodes]: which have an edge to an output."""
    is_source = np.zeros(shard.num_local, dtype=np.bool_)
    for chunk in shard.chunks(outputs, rows=_CHUNK_ROWS, edges=_CHUNK_EDGES):
        _, sources = shard.in_edges(outputs[chunk])
        is_source[sources] = True
    return is_source


def _foreign(
    shard: Shard, exchange: Exchange, is_needed: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[IntArray, list[int]]:
    before = np.flatnonzero(is_needed[: shard.first])
    after = shard.last + np.flatnonzero(is_needed[shard.last :])
    foreign = np.concatenate([before, after])
    owners = shard.owners(shard.to_global(foreign))
    order = np.argsort(owners, kind="stable")
    return foreign[order], np.bincount(owners, minlength=exchange.num_ranks).tolist()


def _requests(
    shard: Shard, exchange: Exchange, foreign: IntArray, counts: list[int]
) -> tuple[IntArray, list[int]]:
    """Ask the owners for `foreign`; returns the own nodes that others ask for, rank after rank."""
    narrow = np.int32 if shard.view.num_nodes < 2**31 else np.int64
    ids = torch.from_numpy(shard.to_global(foreign).astype(narrow))
    requested, num_sent = exchange.swap(ids, counts)
    return requested.numpy().astype(np.int64) - shard.view.first, num_sent
