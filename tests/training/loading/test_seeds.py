"""A batch of edges begins as DGL's loader begins it, with what it must not sample."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import pytest
import torch

from rudder.training.errors import ConfigError
from rudder.training.loading.batch import Pairs
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.loading.seeds import EdgeRules, EdgeSeeds
from rudder.training.sampling.negatives import Ends, InBatchNegatives, PerSourceNegatives

RANDOM = np.random.default_rng(5)
GRAPH = dgl.graph(tuple(torch.from_numpy(RANDOM.integers(40, size=(2, 300)))), num_nodes=40)
EDGES = RANDOM.permutation(300)[:30]
SAMPLER = dgl.dataloading.NeighborSampler([2])


def rules(**options: Any) -> EdgeRules:
    defaults = dict.fromkeys(("exclude", "reverse_eids", "negatives", "held_out"))
    return EdgeRules.of(**(defaults | options))


@pytest.mark.parametrize("with_negatives", [True, False])
def test_pair_graphs_are_those_of_dgl(with_negatives: bool) -> None:
    stock = GRAPH.edge_subgraph(torch.from_numpy(EDGES), relabel_nodes=False)
    source, destination = (each.numpy() for each in GRAPH.find_edges(torch.from_numpy(EDGES)))
    ends, negatives = Ends(source, destination), None
    if with_negatives:
        negatives = InBatchNegatives(2).draw(ends, num_nodes=40, random=np.random.default_rng(0))
        ids = (torch.from_numpy(negatives.sources), torch.from_numpy(negatives.destinations))
        stock, stock_negative = dgl.compact_graphs([stock, dgl.graph(ids, num_nodes=40)])
    else:
        stock = dgl.compact_graphs(stock)
    pairs = Pairs.of(EDGES, ends, negatives)
    check(pairs.make_graph(pairs.ends), stock)
    if pairs.negatives is not None:
        check(pairs.make_graph(pairs.negatives), stock_negative)


def check(ours: dgl.DGLGraph, stock: dgl.DGLGraph) -> None:
    for a, b in zip(ours.edges(), stock.edges(), strict=True):
        assert torch.equal(a, b)
    for found, wanted in ((ours.ndata, stock.ndata), (ours.edata, stock.edata)):
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_batch_s_seeds_are_the_ends_and_its_key_decides_the_negatives() -> None:
    seeds = EdgeSeeds(GRAPH, EDGES, rules(negatives=PerSourceNegatives(2)))
    first, again, other = (
        seeds.begin(0, SeedBatch(np.array([3, 1, 2]), key)).pairs for key in (7, 7, 8)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.edges.tolist() == EDGES[[3, 1, 2]].tolist()
    assert first.nodes.tolist() == again.nodes.tolist() != other.nodes.tolist()
    wanted = GRAPH.find_edges(torch.from_numpy(first.edges))[0].numpy()
    assert first.nodes[first.ends.sources].tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("exclude", "wanted"),
    [
        ("self", [10, 20]),
        ("reverse_id", [10, 20, 279, 289]),
        ([4, 3], [3, 4]),
        (lambda edges: edges + 1, [11, 21]),
    ],
)
def test_what_is_excluded_is_known_by_id(exclude: Any, wanted: list[int]) -> None:
    made = rules(exclude=exclude, reverse_eids=299 - np.arange(300))
    seeds = EdgeSeeds(GRAPH, np.array([20, 5, 10]), made)
    found = seeds.begin(0, SeedBatch(np.array([0, 2]), 0)).edge_filter
    assert found is not None
    assert found.ids is not None
    assert found.ids.tolist() == wanted
    assert made.is_by_id
    assert (found.num_ends is None) == (not isinstance(exclude, str) or exclude == "reverse_id")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"exclude": "both"}, r"exclude = 'both' .* self, reverse_id, ends"),
        ({"exclude": "reverse_id"}, r"reverse_eids = None[\s\S]*exclude='ends'"),
        ({"exclude": [0.5]}, r"exclude = 'float64"),
        ({"held_out": 0.1}, r"held_out = 0.1 .* EdgeSplit"),
        ({"negatives": 5}, r"negative_sampler = 5 .* function"),
        (
            {"negatives": dgl.dataloading.negative_sampler.GlobalUniform(2)},
            r"GlobalUniform[\s\S]*UniformNegatives",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        rules(**options)


def test_a_sampler_that_would_sample_excluded_edges_is_refused() -> None:
    rules(exclude="self").check(SAMPLER)
    rules().check(dgl.dataloading.NeighborSampler([2], replace=True))
    with pytest.raises(ConfigError, match="does not leave out edges"):
        rules(exclude="self").check(dgl.dataloading.NeighborSampler([2], replace=True))


def test_dgls_negative_sampler_is_drawn_ahead_and_others_are_called() -> None:
    stock = dgl.dataloading.negative_sampler.PerSourceUniform(3)
    assert rules(negatives=stock).negatives == PerSourceNegatives(3)
    assert not EdgeSeeds(GRAPH, EDGES, rules(negatives=stock)).uses_rpc
    assert EdgeSeeds(GRAPH, EDGES, rules(negatives=lambda graph, edges: edges)).uses_rpc
    assert EdgeSeeds(GRAPH, EDGES, rules(exclude=lambda edges: edges)).uses_rpc
