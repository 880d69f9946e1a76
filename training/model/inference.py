"""Outputs of nodes from all their neighbours, one layer after the other on all ranks.

A node's message is computed where the node lives, at its narrowest width, and crosses the network
once per layer and rank that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import dgl
import numpy as np
import torch
from torch import Tensor, nn

from rudder.training.distdgl import view_of
from rudder.training.errors import DataError
from rudder.training.model.aggregation import Block, on_device
from rudder.training.model.models import BlockModel
from rudder.training.model.shard import Collectives, Shard
from rudder.training.partition_view import IntArray, PartitionView

_CHUNK_ROWS = 2**20
_CHUNK_EDGES = 2**22
_MAX_CHUNK_EDGES = 2**20
_FIRST_WHOLE_SEEDS = 64
"""Of the first batch of whole blocks; its input nodes tell how many the next may have."""
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
    shard: Shard, collectives: Collectives, *, wanted: IntArray, num_layers: int
) -> list[LayerPlan]:
    """Plan from the last layer to the first; every rank calls this at the same time.

    wanted: int64[n], own nodes (local ids, ascending) whose last output is wanted. A layer's
    outputs are the next one's inputs, so nothing is computed that nobody needs.
    """
    plans: list[LayerPlan] = []
    for _ in range(num_layers):
        plan = _plan_layer(shard, collectives, outputs=wanted)
        plans.insert(0, plan)
        wanted = plan.inputs
    return plans


def _plan_layer(shard: Shard, collectives: Collectives, *, outputs: IntArray) -> LayerPlan:
    is_needed = _sources(shard, outputs)
    foreign, received = _foreign(shard, collectives, is_needed)
    requested, num_sent = _requests(shard, collectives, foreign, received)
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
    shard: Shard, collectives: Collectives, is_needed: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[IntArray, list[int]]:
    before = np.flatnonzero(is_needed[: shard.first])
    after = shard.last + np.flatnonzero(is_needed[shard.last :])
    foreign = np.concatenate([before, after])
    owners = shard.owners(shard.to_global(foreign))
    order = np.argsort(owners, kind="stable")
    return foreign[order], np.bincount(owners, minlength=collectives.num_ranks).tolist()


def _requests(
    shard: Shard, collectives: Collectives, foreign: IntArray, counts: list[int]
) -> tuple[IntArray, list[int]]:
    """Ask the owners for `foreign`; returns the own nodes that others ask for, rank after rank."""
    narrow = np.int32 if shard.view.num_nodes < 2**31 else np.int64
    ids = torch.from_numpy(shard.to_global(foreign).astype(narrow))
    requested, num_sent = collectives.swap(ids, counts)
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
    model: nn.Module,
    *,
    wanted: Tensor,
    device: torch.device,
    view: PartitionView | None = None,
    feature_name: str = "feat",
    batch_rows: int = 65_536,
    on_progress: Callable[[float], object] = lambda share: None,
    num_layers: int | None = None,
) -> NodeOutputs:
    """Outputs from all neighbours, of those of the partition's `wanted` nodes that this rank has.

    g: dgl.distributed.DistGraph; model: of `build_model`; wanted: bool[inner nodes of the
    partition]; view: the partition, where not all its edges count, for models of layers;
    on_progress: called now and then with the share that is done; num_layers: the first layers that
    are computed, None: all of them. Every rank calls this at the same time.
    A model of layers (see `layers_of`) goes layer by layer, over torch's process group and shared
    memory. Any other model is called with blocks of all neighbours, which are sampled over DGL's
    RPC: no other thread may use it.
    Memory of a model of layers: 4 bytes x width x (own rows twice, rows from other ranks once), and
    what `batch_rows` rows and their in-edges take.
    """
    collectives = Collectives(device)
    shard = Shard.of(view or view_of(g), collectives)
    nodes = shard.first + np.flatnonzero(wanted[shard.first : shard.last].numpy())
    was_training = model.training
    model.eval()
    layers = layers_of(model)
    if layers is not None:
        rows = infer(
            layers,
            local_rows(g, feature_name),
            shard,
            collectives,
            wanted=nodes,
            device=device,
            batch_rows=batch_rows,
            on_progress=on_progress,
            num_layers=num_layers,
        )
    else:
        seeds = torch.from_numpy(shard.to_global(nodes))
        chunks = _outputs_of_whole(
            g, model, seeds, feature_name=feature_name, device=device, most_inputs=batch_rows
        )
        progress = _Progress(len(seeds), on_progress)
        rows = collectives.filled(progress.of(chunks), num_rows=len(seeds))
    model.train(was_training)
    return NodeOutputs(torch.from_numpy(nodes), rows)


def _outputs_of_whole(
    g: Any,
    model: nn.Module,
    seeds: Tensor,
    *,
    feature_name: str,
    device: torch.device,
    most_inputs: int,
) -> Iterator[Tensor]:
    """Outputs of seeds from blocks of all neighbours; about `most_inputs` input nodes a batch."""
    sampler = dgl.dataloading.NeighborSampler([-1] * model.num_layers)
    begin, size = 0, _FIRST_WHOLE_SEEDS
    while begin < len(seeds):
        inputs, _, blocks = sampler.sample(g, seeds[begin : begin + size])
        x = g.ndata[feature_name][inputs].float().to(device)
        yield model([on_device(block, device) for block in blocks], x).float().cpu()
        begin += size
        size = max(1, min(2 * size, size * most_inputs // max(len(inputs), 1)))


class LayeredModel(Protocol):
    """A model whose layers can be run one by one, each for all nodes."""

    num_layers: int

    def messages(self, index: int, h: Tensor) -> Tensor:
        """(n, in) -> (n, width): what nodes send to their neighbours in layer `index`."""

    def update(self, index: int, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        """(num_src, width), (num_dst, in) -> (num_dst, out): what they make of it."""


class _OwnLayers:
    """A person's own model that has `forward_layer(index, block, h)`: nodes send their rows."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.num_layers: int = model.num_layers

    def messages(self, index: int, h: Tensor) -> Tensor:
        return h

    def update(self, index: int, block: Block, messages: Tensor, h_dst: Tensor) -> Tensor:
        out: Tensor = self._model.forward_layer(index, block, messages)
        return out


def layers_of(model: nn.Module) -> LayeredModel | None:
    """The model layer by layer: one that Rudder brings, or one with `forward_layer`; else None."""
    if isinstance(model, BlockModel):
        return model
    return _OwnLayers(model) if hasattr(model, "forward_layer") else None


def infer(
    model: LayeredModel,
    features: Tensor,
    shard: Shard,
    collectives: Collectives,
    *,
    wanted: IntArray,
    device: torch.device,
    batch_rows: int,
    on_progress: Callable[[float], object] = lambda share: None,
    num_layers: int | None = None,
) -> Tensor:
    """float32[len(wanted), classes] for own nodes; features: [inner nodes of the partition, dim].

    Every rank calls this at the same time.
    """
    num_layers = num_layers or model.num_layers
    plans = plan_layers(shard, collectives, wanted=wanted, num_layers=num_layers)
    read = _reader(features, nodes=plans[0].inputs)
    progress = _Progress(sum(len(p.inputs) + len(p.outputs) for p in plans), on_progress)
    for index, plan in enumerate(plans):
        step = _LayerStep(model, index, plan, shard, device=device, batch_rows=batch_rows)
        own = len(plan.inputs)
        messages = progress.of(step.messages(read))
        rows = collectives.filled(messages, num_rows=own + len(plan.foreign))
        collectives.swap_in_rounds(
            rows[own:],
            rows[:own],
            torch.from_numpy(plan.sent),
            received=plan.received,
            sent=plan.num_sent,
            on_round=progress.tell,
        )
        h = collectives.filled(progress.of(step.outputs(rows, read)), num_rows=len(plan.outputs))
        read = _reader(h, nodes=np.arange(len(h)))
    return h


class _Progress:
    """Counts the rows of chunks that are done."""

    def __init__(self, num_rows: int, on_progress: Callable[[float], object]) -> None:
        self._num_rows, self._done, self._on_progress = max(num_rows, 1), 0, on_progress

    def tell(self) -> None:
        """What is done has not changed, but work goes on."""
        self._on_progress(self._done / self._num_rows)

    def of(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The chunks, counted."""
        for chunk in chunks:
            yield chunk
            self._done += len(chunk)
            self.tell()


def _reader(rows: Tensor, *, nodes: IntArray) -> Read:
    return lambda positions: rows[torch.from_numpy(nodes[positions])].float()


class _LayerStep:
    """One layer on one rank, a chunk of nodes at a time."""

    def __init__(
        self,
        model: LayeredModel,
        index: int,
        plan: LayerPlan,
        shard: Shard,
        *,
        device: torch.device,
        batch_rows: int,
    ) -> None:
        self._model, self._index = model, index
        self._plan, self._shard = plan, shard
        self._device, self._batch_rows = device, batch_rows
        self._row_of = np.zeros(shard.num_local, dtype=np.int64)
        self._row_of[plan.inputs] = np.arange(len(plan.inputs))
        self._row_of[plan.foreign] = len(plan.inputs) + np.arange(len(plan.foreign))
        self._place = np.empty(self._num_rows, dtype=np.int64)

    @property
    def _num_rows(self) -> int:
        return len(self._plan.inputs) + len(self._plan.foreign)

    def messages(self, read: Read) -> Iterator[Tensor]:
        """float32[n, width], together those of all inputs."""
        own = len(self._plan.inputs)
        for start in range(0, own, self._batch_rows):
            chunk = np.arange(start, min(start + self._batch_rows, own))
            yield self._model.messages(self._index, read(chunk).to(self._device)).cpu()

    def outputs(self, rows: Tensor, read: Read) -> Iterator[Tensor]:
        """float32[n, out], together those of all outputs."""
        nodes = self._plan.outputs
        cut = self._shard.chunks(nodes, rows=self._batch_rows, edges=_MAX_CHUNK_EDGES)
        for chunk in cut:
            block, sources = self._block(nodes[chunk])
            h_dst = read(self._row_of[nodes[chunk]]).to(self._device)
            messages = rows[torch.from_numpy(sources)].to(self._device)
            yield self._model.update(self._index, block, messages, h_dst).cpu()

    def _block(self, nodes: IntArray) -> tuple[Block, IntArray]:
        """The nodes' in-edges, and the row of each source; the nodes are the first sources."""
        counts, sources = self._shard.in_edges(nodes)
        own, rows = self._row_of[nodes], self._row_of[sources]
        is_source = np.zeros(self._num_rows, dtype=np.bool_)
        is_source[rows] = True
        is_source[own] = False
        all_rows = np.concatenate([own, np.flatnonzero(is_source)])
        self._place[all_rows] = np.arange(len(all_rows))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        places = torch.from_numpy(self._place[rows])
        block = dgl.create_block(
            ("csc", (torch.from_numpy(indptr), places, torch.arange(len(places)))),
            num_src_nodes=len(all_rows),
            num_dst_nodes=len(nodes),
        )
        return on_device(block, self._device), all_rows


def local_rows(g: Any, name: str) -> Tensor:
    """The partition's own rows of a node tensor, in shared memory."""
    if name not in g.ndata:
        raise DataError(
            f"the graph has no node tensor {name!r}; it has {sorted(g.ndata)}",
            remedy="prepare the graph again with test and validation masks",
        )
    rows: Tensor = g.ndata[name].local_partition
    return rows
