"""Outputs of nodes from all their neighbours, one layer after the other on all ranks.

A node's message is computed where the node lives, at its narrowest width, and crosses the network
once per layer and rank that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dgl
import numpy as np
import torch
from torch import Tensor

from rudder.training.distdgl import view_of
from rudder.training.errors import DataError
from rudder.training.model.layers import GatLayer, SageLayer
from rudder.training.model.models import BlockModel
from rudder.training.model.shard import Exchange, Shard
from rudder.training.partition_view import IntArray

_CHUNK_ROWS = 2**20
_CHUNK_EDGES = 2**22
_MAX_CHUNK_EDGES = 2**20
Read = Callable[[IntArray], Tensor]


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


@dataclass(frozen=True)
class NodeOutputs:
    """A model's outputs of this rank's nodes.

    nodes: int64[n] local ids, ascending; rows: float32[n, width of the output].
    """

    nodes: Tensor
    rows: Tensor


@torch.no_grad()
def infer_nodes(
    g: Any,
    model: BlockModel,
    *,
    wanted: Tensor,
    device: torch.device,
    feature_name: str = "feat",
    batch_rows: int = 65_536,
) -> NodeOutputs:
    """Outputs from all neighbours, of those of the partition's `wanted` nodes that this rank has.

    g: dgl.distributed.DistGraph; wanted: bool[inner nodes of the partition]. Every rank calls this
    at the same time; it uses torch's process group and shared memory, not DGL's RPC.
    Memory: 4 bytes x width x (own rows twice, rows from other ranks once), and what `batch_rows`
    rows and their in-edges take.
    """
    exchange = Exchange(device)
    shard = Shard.of(view_of(g), exchange)
    nodes = shard.first + np.flatnonzero(wanted[shard.first : shard.last].numpy())
    was_training = model.training
    model.eval()
    rows = infer(
        model,
        local_rows(g, feature_name),
        shard,
        exchange,
        wanted=nodes,
        device=device,
        batch_rows=batch_rows,
    )
    model.train(was_training)
    return NodeOutputs(torch.from_numpy(nodes), rows)


def infer(
    model: BlockModel,
    features: Tensor,
    shard: Shard,
    exchange: Exchange,
    *,
    wanted: IntArray,
    device: torch.device,
    batch_rows: int,
) -> Tensor:
    """float32[len(wanted), classes] for own nodes; features: [inner nodes of the partition, dim].

    Every rank calls this at the same time.
    """
    plans = plan_layers(shard, exchange, wanted=wanted, num_layers=len(model.layers))
    read = _reader(features, nodes=plans[0].inputs)
    for index, plan in enumerate(plans):
        step = _LayerStep(model, index, plan, shard, device=device, batch_rows=batch_rows)
        rows = step.messages(read)
        own = len(plan.inputs)
        exchange.swap_into(
            rows[own:],
            rows[torch.from_numpy(plan.sent)],
            received=plan.received,
            sent=plan.num_sent,
        )
        h = step.outputs(rows, read)
        read = _reader(h, nodes=np.arange(len(h)))
    return h


def _reader(rows: Tensor, *, nodes: IntArray) -> Read:
    return lambda positions: rows[torch.from_numpy(nodes[positions])].float()


class _LayerStep:
    """One layer on one rank, a chunk of nodes at a time."""

    def __init__(
        self,
        model: BlockModel,
        index: int,
        plan: LayerPlan,
        shard: Shard,
        *,
        device: torch.device,
        batch_rows: int,
    ) -> None:
        layer = model.layers[index]
        assert isinstance(layer, SageLayer | GatLayer)
        self._layer, self._model, self._index = layer, model, index
        self._plan, self._shard = plan, shard
        self._device, self._batch_rows = device, batch_rows
        self._row_of = np.zeros(shard.num_local, dtype=np.int64)
        self._row_of[plan.inputs] = np.arange(len(plan.inputs))
        self._row_of[plan.foreign] = len(plan.inputs) + np.arange(len(plan.foreign))
        self._place = np.empty(self._num_rows, dtype=np.int64)

    @property
    def _num_rows(self) -> int:
        return len(self._plan.inputs) + len(self._plan.foreign)

    def messages(self, read: Read) -> Tensor:
        """float32[inputs + foreign, message_dim]; the foreign rows are still to come."""
        own = len(self._plan.inputs)
        rows = torch.empty(self._num_rows, self._layer.message_dim)
        for start in range(0, own, self._batch_rows):
            chunk = np.arange(start, min(start + self._batch_rows, own))
            h = read(chunk).to(self._device)
            rows[chunk[0] : chunk[-1] + 1] = self._layer.messages(h).cpu()
        return rows

    def outputs(self, rows: Tensor, read: Read) -> Tensor:
        """float32[outputs, out_dim]."""
        nodes = self._plan.outputs
        out = torch.empty(len(nodes), self._layer.out_dim)
        cut = self._shard.chunks(nodes, rows=self._batch_rows, edges=_MAX_CHUNK_EDGES)
        for chunk in cut:
            block, sources = self._block(nodes[chunk])
            h_dst = read(self._row_of[nodes[chunk]]).to(self._device)
            messages = rows[torch.from_numpy(sources)].to(self._device)
            h = self._layer.update(block, messages, h_dst)
            out[chunk] = self._model.finish_layer(self._index, h).cpu()
        return out

    def _block(self, nodes: IntArray) -> tuple[dgl.DGLGraph, IntArray]:
        """The nodes' in-edges, and the row of each source; the nodes are the first sources."""
        counts, sources = self._shard.in_edges(nodes)
        own, rows = self._row_of[nodes], self._row_of[sources]
        is_source = np.zeros(self._num_rows, dtype=np.bool_)
        is_source[rows] = True
        is_source[own] = False
        all_rows = np.concatenate([own, np.flatnonzero(is_source)])
        self._place[all_rows] = np.arange(len(all_rows))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        edges = (torch.from_numpy(indptr), torch.from_numpy(self._place[rows]), torch.empty(0))
        block = dgl.create_block(
            ("csc", (edges[0], edges[1], edges[2].long())),
            num_src_nodes=len(all_rows),
            num_dst_nodes=len(nodes),
        )
        return block.to(self._device), all_rows


def local_rows(g: Any, name: str) -> Tensor:
    """The partition's own rows of a node tensor, in shared memory."""
    if name not in g.ndata:
        raise DataError(
            f"the graph has no node tensor {name!r}; it has {sorted(g.ndata)}",
            remedy="prepare the graph again with test and validation masks",
        )
    rows: Tensor = g.ndata[name].local_partition
    return rows
