"""Link prediction: the dot product of a model's outputs of two nodes tells whether they are linked.

Scores are those of information retrieval: an edge's destination competes with nodes that were drawn
at random (MRR, and the share of edges whose destination is among the best k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dgl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rudder.training.distdgl import view_of
from rudder.training.errors import DataError
from rudder.training.loading.batch import Batch
from rudder.training.metrics import Score
from rudder.training.model.inference import infer_nodes
from rudder.training.model.shard import Collectives, Shard
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.edge_split import EdgeSet, EdgeSplit

MAX_TESTED = 10_000
"""Edges that are tested of each set, over all ranks; an error of half a percent of Hits@10."""
NUM_RIVALS = 100
"""Random nodes that each tested edge's destination competes with."""
_POOL = 1_000
"""Nodes that rivals are drawn from, the same on all ranks; their outputs cross the network."""
_BEST = 10


@dataclass(frozen=True)
class LinkPrediction:
    """Tells edges from pairs of nodes that are drawn at random.

    hidden: width of the model's output; split: the edges of validation and test, which neither
    training nor the outputs of evaluated nodes see.
    """

    hidden: int
    split: EdgeSplit

    @property
    def num_outputs(self) -> int:
        """As wide as a hidden layer."""
        return self.hidden

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean binary cross entropy of the batch's edges and of its negative edges."""
        assert batch.pair_graph is not None
        assert batch.negative_graph is not None
        positive = dot_products(batch.pair_graph, outputs)
        negative = dot_products(batch.negative_graph, outputs)
        targets = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
        scores = torch.cat([positive, negative])
        return functional.binary_cross_entropy_with_logits(scores, targets)

    @torch.no_grad()
    def evaluate(
        self,
        graph: Any,
        model: nn.Module,
        *,
        device: torch.device,
        on_progress: Callable[[], object] = lambda: None,
    ) -> tuple[Score, ...]:
        """MRR and Hits@10 of at most 10,000 edges of each set, among 100 random nodes each.

        Raises DataError where no edge is in the test set.
        """
        view = view_of(graph)
        collectives = Collectives(device)
        shard = Shard.of(view, collectives)
        outputs = infer_nodes(
            graph,
            model,
            view=without_held_out(view, self.split),
            wanted=torch.ones(view.num_inner, dtype=torch.bool),
            device=device,
            on_progress=lambda share: on_progress(),
        ).rows
        pool = self._pool(shard, collectives, outputs)
        on_progress()
        found = []
        for name in ("test", "val"):
            ends = held_out_edges(shard, self.split, name, most=MAX_TESTED // collectives.num_ranks)
            sources = fetch_rows(shard, collectives, outputs, ends[0])
            destinations = outputs[torch.from_numpy(ends[1] - shard.first - view.first)]
            found.append(collectives.sum(ranking_sums(sources, destinations, pool)).tolist())
            on_progress()
        return ranking_scores(*found)

    def _pool(self, shard: Shard, collectives: Collectives, outputs: Tensor) -> Tensor:
        """float[pool, width]: outputs of the rivals, from the ranks that have them."""
        random = np.random.default_rng(self.split.seed)
        nodes = random.integers(shard.view.num_nodes, size=_POOL)
        own = np.flatnonzero(shard.owners(nodes) == collectives.rank)
        pool = torch.zeros(_POOL, outputs.shape[1])
        places = torch.from_numpy(nodes[own] - shard.view.first - shard.first)
        pool[torch.from_numpy(own)] = outputs[places]
        return collectives.sum(pool)


def dot_products(graph: dgl.DGLGraph, rows: Tensor) -> Tensor:
    """float[edges]: of the rows of both ends of each edge, over the root of their width."""
    sources, destinations = graph.edges()
    products: Tensor = (rows[sources] * rows[destinations]).sum(1)
    return products / math.sqrt(rows.shape[1])


def without_held_out(view: PartitionView, split: EdgeSplit) -> PartitionView:
    """The same partition with its training edges only."""
    sources, destinations = _ends(view, np.arange(view.num_inner))
    kept = split.is_in("train", sources, destinations)
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        view,
        indptr=before[view.indptr],
        indices=view.indices[: len(kept)][kept],
        csc_edge_ids=None,
    )


def held_out_edges(
    shard: Shard, split: EdgeSplit, edge_set: EdgeSet, *, most: int
) -> tuple[IntArray, IntArray]:
    """Sources and destinations of edges into this rank's nodes that are in a set; evenly chosen."""
    sources, destinations = _ends(shard.view, np.arange(shard.first, shard.last))
    places = np.flatnonzero(split.is_in(edge_set, sources, destinations))
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).astype(np.int64)]
    return sources[places], destinations[places]


def _ends(view: PartitionView, nodes: IntArray) -> tuple[IntArray, IntArray]:
    """Global ids of the ends of all in-edges of a run of inner nodes."""
    if not len(nodes):
        return nodes, nodes
    first, last = view.indptr[nodes[0]], view.indptr[nodes[-1] + 1]
    counts = np.diff(view.indptr[nodes[0] : nodes[-1] + 2])
    local = np.asarray(view.indices[first:last])
    sources = local + view.first
    is_halo = local >= view.num_inner
    sources[is_halo] = view.halo[local[is_halo] - view.num_inner]
    return sources, np.repeat(nodes + view.first, counts)


def fetch_rows(shard: Shard, collectives: Collectives, rows: Tensor, nodes: IntArray) -> Tensor:
    """float[n, width]: the rows of any nodes, from the ranks that have them; all ranks call it.

    rows: of this rank's nodes.
    """
    distinct, places = np.unique(nodes, return_inverse=True)
    owners = shard.owners(distinct)
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=collectives.num_ranks).tolist()
    asked, num_asked = collectives.swap(torch.from_numpy(distinct[order]), counts)
    answers, _ = collectives.swap(rows[asked - shard.view.first - shard.first], num_asked)
    found = torch.empty_like(answers)
    found[torch.from_numpy(order)] = answers
    return found[torch.from_numpy(places)]


def ranking_sums(sources: Tensor, destinations: Tensor, pool: Tensor) -> Tensor:
    """float64[3]: edges, and sums of their reciprocal ranks and of their hits among the best 10.

    sources, destinations: float[n, width]; pool: float[m, width], of which each edge has 100 rows
    as rivals. Of equal scores the rival's comes first.
    """
    random = np.random.default_rng(len(sources))
    drawn = torch.from_numpy(random.integers(len(pool), size=(len(sources), NUM_RIVALS)))
    rivals = (sources @ pool.T).gather(1, drawn)
    own = (sources * destinations).sum(1, keepdim=True)
    ranks = 1 + (rivals >= own).sum(1).double()
    hits = (ranks <= _BEST).double()
    return torch.stack([torch.ones_like(ranks), 1 / ranks, hits]).sum(1)


def ranking_scores(test: list[float], val: list[float]) -> tuple[Score, ...]:
    """Means of the sums of both sets. Raises DataError where there was nothing to test."""
    if not test[0]:
        raise DataError(
            "no edge is in the test set", remedy="train on a graph with more edges, or another seed"
        )
    names = ("MRR", f"Hits@{_BEST}")
    return tuple(
        Score(name=name, test=test[k] / test[0], val=val[k] / val[0] if val[0] else None)
        for k, name in enumerate(names, start=1)
    )
