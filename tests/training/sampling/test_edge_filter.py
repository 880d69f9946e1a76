"""Edges are dropped by id, by their ends, or because they are held out; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.errors import ConfigError
from rudder.training.sampling.edge_filter import EdgeFilter, pair_keys
from rudder.training.sampling.edge_split import EdgeSet, EdgeSplit
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from tests.training.loading.small_world import HERE, NUM_NODES, VIEWS

FRONTIER = np.array([30, 31, 59])


def whole_layer(edge_filter: EdgeFilter | None) -> list[tuple[int, int]]:
    """All in-edges of the frontier that are kept, sources first."""
    sampling = NeighborSampling(VIEWS[HERE])
    half = sampling.begin(FRONTIER, LayerDraw(fanout=-1, key=0))
    layer = sampling.finish(half, [], edge_filter)
    counts = np.diff(layer.indptr)
    assert layer.num_dst == len(FRONTIER)
    sources = layer.nodes[layer.indices]
    assert set(layer.nodes) == {*FRONTIER.tolist(), *sources.tolist()}
    return list(zip(sources.tolist(), np.repeat(FRONTIER, counts).tolist(), strict=True))


def test_edges_between_the_ends_of_a_target_are_dropped_in_both_directions() -> None:
    every = whole_layer(None)
    source, destination = every[0]
    for ends in ((source, destination), (destination, source)):
        keys = pair_keys(np.array([ends[0]]), np.array([ends[1]]), NUM_NODES)
        kept = whole_layer(EdgeFilter(NUM_NODES, pairs=keys, num_ends=len(FRONTIER)))
        assert kept == [edge for edge in every if {*edge} != {source, destination}]
        assert len(kept) < len(every)


def test_only_edges_into_the_first_nodes_are_looked_at_where_others_cannot_be_among_them() -> None:
    every = whole_layer(None)
    sources, destinations = np.array(every).T
    keys = np.sort(pair_keys(sources, destinations, NUM_NODES))
    kept = whole_layer(EdgeFilter(NUM_NODES, pairs=keys, num_ends=1))
    assert kept == [edge for edge in every if edge[1] != FRONTIER[0]]


def test_edges_are_dropped_by_id() -> None:
    counts, sources, ids = np.array([2, 1]), np.array([5, 6, 7]), np.array([9, 4, 2])
    dropping = EdgeFilter(10, ids=np.array([2, 4, 8]))
    assert dropping.keeps(np.array([0, 1]), counts, sources, ids).tolist() == [True, False, False]
    nothing = EdgeFilter(10, ids=np.array([], dtype=np.int64))
    assert nothing.keeps(np.array([0, 1]), counts, sources, ids).all()


def test_held_out_edges_are_dropped() -> None:
    split = EdgeSplit(val=0.3, test=0.3)
    every = whole_layer(None)
    in_train = split.is_in("train", *np.array(every).T)
    kept = whole_layer(EdgeFilter(NUM_NODES, split=split))
    assert kept == [edge for edge, kept in zip(every, in_train, strict=True) if kept]
    assert 0 < len(kept) < len(every)


def test_a_split_has_the_shares_asked_for_and_both_directions_together() -> None:
    random = np.random.default_rng(3)
    ends = random.integers(10**9, size=(2, 100_000))
    names: tuple[EdgeSet, ...] = ("train", "val", "test")
    sets = {name: EdgeSplit(1, 0.1, 0.2).is_in(name, *ends) for name in names}
    shares = {name: float(found.mean()) for name, found in sets.items()}
    assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.01)
    assert (np.stack(list(sets.values())).sum(0) == 1).all()
    assert (EdgeSplit(1, 0.1, 0.2).is_in("val", *ends[::-1]) == sets["val"]).all()
    other = EdgeSplit(2, 0.1, 0.2).is_in("val", *ends)
    assert 0.005 < float((other & sets["val"]).mean()) < 0.015


def test_a_split_of_more_than_all_edges_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"EdgeSplit.val = 0.6 .* 0 to 1"):
        EdgeSplit(val=0.6, test=0.5)
