"""A graph of three partitions in one process: what one trainer sees, and a wire to the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch

from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.loading.batch import Batch
from rudder.training.loading.pacing import Pacing
from rudder.training.loading.pipeline import Pipeline, QueueLimits
from rudder.training.loading.requests import PendingRequests
from rudder.training.loading.sampling_stage import SampleWhole, SamplingStage
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.loading.seeds import NodeSeeds
from rudder.training.loading.tensors import NodeTensor
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from rudder.training.settings import BufferSettings
from rudder.training.wire.wire import Answer

NUM_NODES, STARTS, HERE = 90, np.array([0, 30, 60, 90]), 1
FANOUTS = (4, 3)
_IN_EDGES = np.random.default_rng(0).integers(0, NUM_NODES, (NUM_NODES, 6))
ROWS = {
    "feat": torch.arange(NUM_NODES * 3, dtype=torch.float32).view(NUM_NODES, 3),
    "year": torch.arange(NUM_NODES, dtype=torch.int16),
    "label": torch.arange(NUM_NODES) * 7,
}


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
        indptr=np.arange(0, 6 * (last - first) + 1, 6),
        indices=order[np.searchsorted(local[order], sources)],
        halo=halo,
    )


VIEWS = [view_of(part) for part in range(3)]


def tensor_of(name: str) -> NodeTensor:
    rows = ROWS[name]
    return NodeTensor(
        name=name,
        key=f"key of {name}",
        shape=tuple(rows.shape[1:]),
        dtype=rows.dtype,
        local=rows[STARTS[HERE] : STARTS[HERE + 1]],
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

    def pull(self, owner: int, nodes: IntArray, names: Sequence[str]) -> int:
        assert all(VIEWS[owner].first <= node < VIEWS[owner].last for node in nodes)
        self.pulled.append(nodes)
        ids = torch.from_numpy(nodes)
        return self._ask({key: ROWS[key.removeprefix("key of ")][ids] for key in names})

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        if not self.waiting or self.random.random() < 0.2:
            return None
        return self.waiting.pop(self.random.randrange(len(self.waiting)))

    def _ask(self, answer: Answer) -> int:
        self.num_asked += 1
        self.waiting.append((self.num_asked, answer))
        return self.num_asked


class World:
    """A real pipeline over the shuffling wire."""

    def __init__(
        self, seed: int, *, policy: str = "lookahead", sample_whole: SampleWhole | None = None
    ) -> None:
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
        self.pipeline = Pipeline(
            view=VIEWS[HERE],
            pending=self.pending,
            sampling=self.sampling,
            policy=self.policy,
            inputs=[tensor_of("feat"), tensor_of("year")],
            outputs=[tensor_of("label")],
            limits=QueueLimits(),
            begin=NodeSeeds(np.empty(0, dtype=np.int64)).begin,
        )
        self.ready: deque[Batch] = deque()
        self._num_added = 0

    def seeds(self) -> IntArray:
        """int64: of this partition, and some of others'."""
        chosen = self.random.sample(range(20, 70), self.random.randint(1, 9))
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


def wrong_rows(batch: Batch) -> list[str]:
    """Names of tensors whose rows are not those of the batch's nodes."""
    blocks: list[Any] = batch.blocks
    found = {name: blocks[0].srcdata[name] for name in ("feat", "year")}
    wrong = [name for name in found if not torch.equal(found[name], ROWS[name][batch.input_nodes])]
    labels = blocks[-1].dstdata["label"]
    return wrong if torch.equal(labels, ROWS["label"][batch.seeds]) else [*wrong, "label"]
