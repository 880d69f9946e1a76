"""One batch on its way through the loader, and what the trainer gets of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import dgl
import numpy as np
import torch

from rudder.training.buffer.policy import BatchPlan, IntArray
from rudder.training.errors import ConfigError
from rudder.training.loading.owner_accounts import Pull
from rudder.training.metrics import NodeArray, RowCounts, Seconds
from rudder.training.sampling.edge_filter import EdgeFilter
from rudder.training.sampling.negatives import Ends
from rudder.training.sampling.neighbor import Edges, HalfLayer, SampledLayer
from rudder.training.wire.wire import Answer, Rows


@dataclass
class StepAccounts:
    """What one training step took; complete once the next batch is wanted.

    rows, edge_rows: of tensors of nodes, and of edges; pulls: rows that other partitions sent for
    it; accesses: int32 sampled remote numbers of its input nodes, None unless a controller wants
    them.
    """

    rows: RowCounts
    seconds: Seconds
    edge_rows: RowCounts = field(default_factory=RowCounts)
    pulls: tuple[Pull, ...] = ()
    accesses: NodeArray | None = None


@dataclass(frozen=True)
class Pairs:
    """The edges of a batch to predict, and negative edges beside them.

    edges: int64[n] global ids; nodes: int64[m] distinct global ids of all ends; ends, negatives:
    positions in `nodes`, negatives None where there are none.
    """

    edges: IntArray
    nodes: IntArray
    ends: Ends
    negatives: Ends | None

    @classmethod
    def of(cls, edges: IntArray, ends: Ends, negatives: Ends | None) -> Pairs:
        """Number the ends, given by global id, as `dgl.compact_graphs` does: as they come."""
        ids = [ends.sources, ends.destinations]
        if negatives is not None:
            ids += [negatives.sources, negatives.destinations]
        nodes, numbers = number_as_they_come(np.concatenate(ids))
        places = np.split(numbers, np.cumsum([len(each) for each in ids[:-1]]))
        return cls(edges, nodes, Ends(*places[:2]), Ends(*places[2:]) if negatives else None)

    def make_graph(self, ends: Ends) -> dgl.DGLGraph:
        """The pair graph of `ends` or `negatives`, with NID, and of edges with EID."""
        source, destination = torch.from_numpy(ends.sources), torch.from_numpy(ends.destinations)
        graph = dgl.graph((source, destination), num_nodes=len(self.nodes))
        graph.ndata[dgl.NID] = torch.from_numpy(self.nodes)
        if ends is self.ends:
            graph.edata[dgl.EID] = torch.from_numpy(self.edges)
        return graph


def number_as_they_come(ids: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct ids in the order of their first appearance, and the number of each of `ids`."""
    distinct, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[inverse]


@dataclass(frozen=True)
class Batch:
    """What a training step needs, and its accounts.

    number: of the batch in the run; input_nodes, seeds: int64 global ids; blocks: input layer
    first, with the rows of inputs in `blocks[0].srcdata` and of outputs in `blocks[-1].dstdata`;
    pair_graph, negative_graph: of a loader of edges.
    """

    number: int
    input_nodes: torch.Tensor
    seeds: torch.Tensor
    blocks: list[dgl.DGLGraph]
    accounts: StepAccounts
    pair_graph: dgl.DGLGraph | None = None
    negative_graph: dgl.DGLGraph | None = None

    def on(self, device: torch.device) -> Batch:
        """The same with its blocks and pair graphs on a device."""
        if device.type == "cpu":
            return self
        graphs = [*self.blocks, self.pair_graph, self.negative_graph]
        *blocks, pairs, negatives = (
            graph if graph is None else graph.to(device, non_blocking=True) for graph in graphs
        )
        return replace(self, blocks=blocks, pair_graph=pairs, negative_graph=negatives)


@dataclass(frozen=True)
class WholeSample:
    """A batch of another sampler than ours: int64 input node ids, blocks input layer first."""

    nodes: IntArray
    blocks: tuple[dgl.DGLGraph, ...]


@dataclass(frozen=True)
class Fetch:
    """Rows asked of one owner: of misses first, then of eager targets.

    misses: positions in the plan's misses; targets: positions in its targets.
    """

    ticket: int
    misses: IntArray
    targets: IntArray


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass
class Lookup:
    """The rows of nodes, or of edges, that one batch needs, and where each of them comes from.

    ids: int64[n] distinct global ids of inputs; outputs: int64[s] those of outputs; answers: of
    the batch, by ticket; places: int64[m] positions in `ids` in the order of delivery, None: as
    they are; local, remote: positions in `ids`; remote_numbers: of the remote ones.
    """

    ids: IntArray
    outputs: IntArray
    answers: dict[int, Answer]
    places: torch.Tensor | None = None
    local: IntArray = field(default_factory=_none)
    remote: IntArray = field(default_factory=_none)
    remote_numbers: IntArray = field(default_factory=_none)
    plan: BatchPlan | None = None
    fetches: tuple[Fetch, ...] = ()
    output_tickets: tuple[tuple[int, IntArray], ...] = ()

    @property
    def planned(self) -> BatchPlan:
        """The plan of a batch that has one."""
        assert self.plan is not None
        return self.plan

    @property
    def num_bytes(self) -> int:
        """Memory of the positions."""
        return self.local.nbytes + self.remote.nbytes + self.remote_numbers.nbytes

    def rows(self, ticket: int) -> Rows:
        """Fetched rows by tensor key."""
        answer = self.answers[ticket]
        assert not isinstance(answer, Edges)
        return answer

    def numbers_of(self, fetch: Fetch) -> IntArray:
        """int64[n] remote numbers of fetched rows, in the order in which they were asked for."""
        missed = self.remote_numbers[self.planned.misses[fetch.misses]]
        return np.concatenate([missed, self.planned.targets[fetch.targets]])

    def replace(self, ticket: int, key: str, rows: torch.Tensor) -> None:
        """Put other rows of one tensor in the place of those that were fetched."""
        self.answers[ticket] = {**self.rows(ticket), key: rows}


@dataclass
class InFlightBatch:
    """A batch under way. Its stages: sampled layer by layer, observed, planned, assembled.

    number: of the batch in the run; seeds: nodes whose representation is wanted; draw_key: 64 bits
    that decide which in-edges are drawn; pairs, edge_filter: of a batch of edges; lookups: of the
    rows of nodes, then of edges; observed_bytes: `num_bytes` as of when it was observed, from when
    on it is the same; is_fetch: no batch, but an eager fetch of rows for the buffer alone.
    """

    number: int
    seeds: IntArray
    draw_key: int = 0
    pairs: Pairs | None = None
    edge_filter: EdgeFilter | None = None
    layers: list[SampledLayer] = field(default_factory=list)
    half: HalfLayer | None = None
    tickets: list[int] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    observed_bytes: int = 0
    sample_seconds: float = 0.0
    pull_seconds: float = 0.0
    pull_work_seconds: float = 0.0
    pulls: list[Pull] = field(default_factory=list)
    whole: WholeSample | None = None
    is_fetch: bool = False

    @classmethod
    def fetch(cls, plan: BatchPlan) -> Self:
        """An eager fetch without a batch."""
        fetch = cls(0, _none(), is_fetch=True)
        fetch.lookups.append(Lookup(_none(), _none(), fetch.answers, plan=plan))
        return fetch

    @property
    def is_answered(self) -> bool:
        """Whether nothing is asked that has not come."""
        return all(ticket in self.answers for ticket in self.tickets)

    @property
    def nodes(self) -> IntArray:
        """Global ids of the input nodes, once sampled."""
        return self.layers[-1].nodes if self.whole is None else self.whole.nodes

    @property
    def edge_ids(self) -> list[IntArray]:
        """Global ids of the edges of each block, input layer first.

        Raises ConfigError where a sampler of the user's draws blocks without them.
        """
        if self.whole is None:
            return [layer.edge_ids for layer in reversed(self.layers) if layer.edge_ids is not None]
        if any(dgl.EID not in block.edata for block in self.whole.blocks):
            raise ConfigError(
                "edge_inputs needs the ids of the drawn edges, and this sampler's blocks have none",
                remedy="have the sampler set block.edata[dgl.EID], or use a NeighborSampler",
            )
        return [block.edata[dgl.EID].numpy() for block in self.whole.blocks]

    def make_blocks(self) -> list[dgl.DGLGraph]:
        """The sampled blocks, input layer first, with NID and, if drawn, EID."""
        if self.whole is not None:
            return list(self.whole.blocks)
        return [_make_block(layer) for layer in reversed(self.layers)]

    def make_pair_graphs(self) -> dict[str, dgl.DGLGraph]:
        """The fields of Batch that have pair graphs."""
        pairs = self.pairs
        if pairs is None:
            return {}
        made = {"pair_graph": pairs.make_graph(pairs.ends)}
        if pairs.negatives is not None:
            made["negative_graph"] = pairs.make_graph(pairs.negatives)
        return made

    @property
    def num_bytes(self) -> int:
        """Memory of the sampled structure, and of what is looked up for it."""
        drawn = self.seeds.nbytes + sum(layer.num_bytes for layer in self.layers)
        return drawn + sum(lookup.num_bytes for lookup in self.lookups)

    def take_answers(self) -> list[Answer]:
        """Answers in the order in which they were asked for."""
        taken = [self.answers.pop(ticket) for ticket in self.tickets]
        self.tickets = []
        return taken


def _make_block(layer: SampledLayer) -> dgl.DGLGraph:
    nodes = torch.from_numpy(layer.nodes)
    csc = (
        torch.from_numpy(layer.indptr),
        torch.from_numpy(layer.indices),
        torch.arange(len(layer.indices)),  # DGL's GATConv and others fail without
    )
    block = dgl.create_block(
        {("_N", "_E", "_N"): ("csc", csc)}, {"_N": len(nodes)}, {"_N": layer.num_dst}
    )
    block.srcdata[dgl.NID] = nodes
    block.dstdata[dgl.NID] = nodes[: layer.num_dst]
    if layer.edge_ids is not None:
        block.edata[dgl.EID] = torch.from_numpy(layer.edge_ids)
    return block
