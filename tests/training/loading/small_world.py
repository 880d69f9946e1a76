"""A graph of three partitions in one process: what one trainer sees, and a wire to the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import dgl
import numpy as np
import torch

from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.loading.arguments import Field
from rudder.training.loading.batch import Batch, InFlightBatch, Pairs
from rudder.training.loading.pacing import Pacing
from rudder.training.loading.pipeline import Pipeline, QueueLimits
from rudder.training.loading.requests import PendingRequests
from rudder.training.loading.row_stages import EdgeStage, RowStage, settings_for_edges
from rudder.training.loading.sampling_stage import SampleWhole, SamplingStage
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.loading.seeds import NodeSeeds
from rudder.training.loading.tensors import GraphTensor
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.negatives import Ends
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from rudder.training.settings import BufferSettings
from rudder.training.wire.wire import Answer

NUM_NODES, STARTS, HERE = 90, np.array([0, 30, 60, 90]), 1
FANOUTS = (4, 3)
_IN_EDGES = np.random.default_rng(0).integers(0, NUM_NODES, (NUM_NODES, 6))
DEGREE = 6
"""Node v has the in-edges 6 v to 6 v + 5."""
NUM_EDGES, EDGE_STARTS = NUM_NODES * DEGREE, STARTS * DEGREE
ROWS = {
    "feat": torch.arange(NUM_NODES * 3, dtype=torch.float32).view(NUM_NODES, 3),
    "year": torch.arange(NUM_NODES, dtype=torch.int16),
    "label": torch.arange(NUM_NODES) * 7,
    "weight": torch.arange(NUM_EDGES * 2, dtype=torch.float32).view(NUM_EDGES, 2),
    "kind": torch.arange(NUM_EDGES, dtype=torch.int16),
    "class": torch.arange(NUM_EDGES) * 3,
}
FIELDS: dict[str, Field] = {
    "feat": "inputs", "year": "inputs", "label": "outputs",
    "weight": "edge_inputs", "kind": "edge_inputs", "class": "pair_outputs",
}  # fmt: skip


def view_of(part: int) -> PartitionView:
    """One partition with the six in-edges of each of its nodes."""
    first, last = STARTS[part], STARTS[part + 1]
    sources = _IN_EDGES[first:last].reshape(-1)
    halo = np.unique(sources[(sources < first) | (sources >= last)])
    local = np.concatenate([np.arange(first, last), halo])
    order = np.argsort(local)
    return PartitionView(
        part=part,
        starts=STARTS,
        indptr=np.arange(0, DEGREE * (last - first) + 1, DEGREE),
        indices=order[np.searchsorted(local[order], sources)],
        halo=halo,
        csc_edge_ids=np.arange(DEGREE * first, DEGREE * last),
    )


VIEWS = [view_of(part) for part in range(3)]
EDGES = PartitionView.of_edges(part=HERE, starts=EDGE_STARTS)


def starts_of(name: str) -> IntArray:
    return STARTS if FIELDS[name] in ("inputs", "outputs") else EDGE_STARTS


def tensor_of(name: str) -> GraphTensor:
    rows, starts = ROWS[name], starts_of(name)
    return GraphTensor(
        field=FIELDS[name],
        name=name,
        key=f"key of {name}",
        shape=tuple(rows.shape[1:]),
        dtype=rows.dtype,
        local=rows[starts[HERE] : starts[HERE + 1]],
    )


@dataclass
class ShufflingWire:
    """Answers as the other partitions would, in an order that a seed decides, some of them late."""

    random: Random
    waiting: list[tuple[int, Answer]] = field(default_factory=list)
    pulled: list[IntArray] = field(default_factory=list)
    num_asked: int = 0

    def __post_init__(self) -> None:
        self._samplings = [NeighborSampling(view) for view in VIEWS]

    @property
    def num_open(self) -> int:
        return len(self.waiting)

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        assert all(VIEWS[owner].first <= node < VIEWS[owner].last for node in nodes)
        return self._ask(self._samplings[owner].draw(nodes, draw))

    def pull(self, owner: int, ids: IntArray, names: Sequence[str], *, first: int) -> int:
        tables = [key.removeprefix("key of ") for key in names]
        for starts in map(starts_of, tables):
            assert starts[owner] == first <= ids.min() <= ids.max() < starts[owner + 1]
        self.pulled.append(ids)
        wanted = torch.from_numpy(ids)
        return self._ask({f"key of {name}": ROWS[name][wanted] for name in tables})

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        if not self.waiting or self.random.random() < 0.2:
            return None
        return self.waiting.pop(self.random.randrange(len(self.waiting)))

    def _ask(self, answer: Answer) -> int:
        self.num_asked += 1
        self.waiting.append((self.num_asked, answer))
        return self.num_asked


def begin_pairs(number: int, batch: SeedBatch) -> InFlightBatch:
    """A batch whose seeds are edges."""
    edges = batch.seeds
    ends = Ends(_IN_EDGES.reshape(-1)[edges], edges // DEGREE)
    pairs = Pairs.of(edges, ends, None)
    return InFlightBatch(number, pairs.nodes, draw_key=batch.draw_key, pairs=pairs)


class World:
    """A real pipeline over the shuffling wire."""

    def __init__(
        self,
        seed: int,
        *,
        policy: str = "lookahead",
        sample_whole: SampleWhole | None = None,
        of_edges: bool = False,
    ) -> None:
        """of_edges: seeds are edges, and tensors of edges are delivered, too."""
        self.of_edges = of_edges
        self.random = Random(seed)
        self.wire = ShufflingWire(self.random)
        self.pending = PendingRequests(self.wire, pacing=Pacing({}))
        self.sampling = SamplingStage(
            self.pending,
            NeighborSampling(VIEWS[HERE]),
            fanouts=() if sample_whole else FANOUTS,
            sample_whole=sample_whole,
        )
        settings = BufferSettings(
            capacity_rows=self.random.choice([0, 5, 20]),
            lookahead_batches=self.random.choice([0, 1, 6]),
        )
        self.policy = make_policy(policy, VIEWS[HERE], settings, PolicyOptions(fanouts=FANOUTS))
        common: dict[str, Any] = {"pending": self.pending, "num_batches": QueueLimits().assembled}
        self.nodes = RowStage(
            VIEWS[HERE],
            self.policy,
            inputs=[tensor_of("feat"), tensor_of("year")],
            outputs=[tensor_of("label")],
            **common,
        )
        self.edges = EdgeStage(
            EDGES,
            make_policy(policy, EDGES, settings_for_edges(settings, DEGREE, view=EDGES)),
            inputs=[tensor_of("weight"), tensor_of("kind")],
            outputs=[tensor_of("class")],
            nodes=self.policy,
            edges_per_node=DEGREE,
            **common,
        )
        self.pipeline = Pipeline(
            pending=self.pending,
            sampling=self.sampling,
            nodes=self.nodes,
            edges=self.edges if of_edges else None,
            limits=QueueLimits(),
            begin=begin_pairs if of_edges else NodeSeeds(np.empty(0, dtype=np.int64)).begin,
        )
        self.ready: deque[Batch] = deque()
        self._num_added = 0

    def seeds(self) -> IntArray:
        """int64: of this partition, and some of others'."""
        scale = DEGREE if self.of_edges else 1
        chosen = self.random.sample(range(20 * scale, 70 * scale), self.random.randint(1, 9))
        return np.array(chosen, dtype=np.int64)

    def add(self, batches: Sequence[IntArray]) -> None:
        """Queue batches of seeds, the k-th with the key k."""
        self.pipeline.add(SeedBatch(nodes, self._num_added + k) for k, nodes in enumerate(batches))
        self._num_added += len(batches)

    def turn(self, *, room: bool = True) -> None:
        """One piece of work, or one answer."""
        if self.pipeline.work(room=room, hand_over=self.ready.append):
            return
        if not self.pipeline.fetch_idle():
            self.pipeline.receive(0, give_up_s=60.0)

    def finish(self) -> list[Batch]:
        """All batches that were not taken yet."""
        while not self.pipeline.is_empty:
            self.turn()
        batches = list(self.ready)
        self.ready.clear()
        return batches


def asked_of(batch: Batch) -> list[int]:
    """The seeds that a batch was made of."""
    seeds = batch.seeds if batch.pair_graph is None else batch.pair_graph.edata[dgl.EID]
    return list(seeds.tolist())


def wrong_rows(batch: Batch) -> list[str]:
    """Names of tensors whose rows are not those of the batch's nodes and edges."""
    blocks: list[Any] = batch.blocks
    frames = [(batch.input_nodes, blocks[0].srcdata), (batch.seeds, blocks[-1].dstdata)]
    names = [["feat", "year"], ["label"]]
    if batch.pair_graph is not None:
        graphs: list[Any] = [*blocks, batch.pair_graph]
        frames += [(graph.edata[dgl.EID], graph.edata) for graph in graphs]
        names += [["weight", "kind"] for _ in blocks] + [["class"]]
    return [
        name
        for (ids, frame), each in zip(frames, names, strict=True)
        for name in each
        if not torch.equal(frame[name], ROWS[name][ids])
    ]
