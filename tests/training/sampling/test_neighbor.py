"""A layer holds only edges of the graph, as many as the fan-out allows, whoever draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling, SampledLayer, draw_key


@dataclass(frozen=True)
class World:
    """A graph cut into partitions; edge e goes from sources[e] to destinations[e]."""

    sources: IntArray
    destinations: IntArray
    starts: IntArray

    def degree(self, node: int) -> int:
        return int((self.destinations == node).sum())

    def view(self, part: int, *, with_edge_ids: bool = True) -> PartitionView:
        first, last = self.starts[part], self.starts[part + 1]
        edges = np.flatnonzero((self.destinations >= first) & (self.destinations < last))
        edges = edges[np.argsort(self.destinations[edges], kind="stable")]
        sources, destinations = self.sources[edges], self.destinations[edges]
        is_inner = (sources >= first) & (sources < last)
        halo = np.unique(sources[~is_inner])
        local = np.where(is_inner, sources - first, last - first + np.searchsorted(halo, sources))
        return PartitionView(
            part=part,
            starts=self.starts,
            indptr=np.searchsorted(destinations, np.arange(first, last + 1)),
            indices=local,
            halo=halo,
            csc_edge_ids=edges if with_edge_ids else None,
        )

    def samplers(self, *, with_edge_ids: bool = True) -> list[NeighborSampling]:
        parts = range(len(self.starts) - 1)
        views = [self.view(part, with_edge_ids=with_edge_ids) for part in parts]
        return [NeighborSampling(view) for view in views]

    def check(self, layer: SampledLayer, frontier: IntArray, fanout: int) -> None:
        assert layer.num_dst == len(frontier)
        assert layer.nodes[: layer.num_dst].tolist() == frontier.tolist()
        assert len(set(layer.nodes.tolist())) == len(layer.nodes)
        assert set(range(layer.num_dst, len(layer.nodes))) <= set(layer.indices.tolist())
        degrees = [self.degree(node) for node in frontier.tolist()]
        counts = [degree if fanout < 0 else min(degree, fanout) for degree in degrees]
        assert np.diff(layer.indptr).tolist() == counts
        destinations = np.repeat(frontier, counts)
        if layer.edge_ids is None:
            edges = set(zip(self.sources.tolist(), self.destinations.tolist(), strict=True))
            drawn = zip(layer.nodes[layer.indices].tolist(), destinations.tolist(), strict=True)
            assert set(drawn) <= edges
        else:
            assert len(set(layer.edge_ids.tolist())) == len(layer.edge_ids)
            assert self.destinations[layer.edge_ids].tolist() == destinations.tolist()
            assert np.array_equal(self.sources[layer.edge_ids], layer.nodes[layer.indices])


def draw_layer(
    samplers: Sequence[NeighborSampling], part: int, frontier: IntArray, fanout: int
) -> SampledLayer:
    draw = LayerDraw(fanout, key=7)
    half = samplers[part].begin(frontier, draw)
    answers = [samplers[question.owner].draw(question.nodes, draw) for question in half.questions]
    return samplers[part].finish(half, answers)


def random_world(*, num_nodes: int, num_edges: int, parts: int, first: int = 0) -> World:
    random = np.random.default_rng(num_nodes)
    starts = first + np.linspace(0, num_nodes, parts + 1).astype(np.int64)
    return World(
        sources=first + random.integers(0, num_nodes, num_edges),
        destinations=first + (num_nodes * random.random(num_edges) ** 3).astype(np.int64),
        starts=starts,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    num_nodes = draw(st.integers(1, 12))
    nodes = st.integers(0, num_nodes - 1)
    edges = np.array(draw(st.lists(st.tuples(nodes, nodes), max_size=60)), dtype=np.int64)
    cuts = sorted(draw(st.lists(st.integers(0, num_nodes), max_size=3)))
    sources, destinations = edges.reshape(-1, 2).T
    starts = np.array([0, *cuts, num_nodes])
    return World(sources=sources, destinations=destinations, starts=starts)


@given(
    world=worlds(), fanout=st.sampled_from([-1, 0, 1, 2, 5, 70]), with_edge_ids=st.booleans(),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_layers_hold_edges_of_the_graph_whoever_draws_them(
    world: World, fanout: int, with_edge_ids: bool, data: st.DataObject
) -> None:
    samplers = world.samplers(with_edge_ids=with_edge_ids)
    part = data.draw(st.integers(0, len(samplers) - 1))
    nodes = st.integers(0, int(world.starts[-1]) - 1)
    for _ in range(3):
        frontier = np.array(data.draw(st.lists(nodes, unique=True)), dtype=np.int64)
        world.check(draw_layer(samplers, part, frontier, fanout), frontier, fanout)


@pytest.mark.parametrize("fanout", [-1, 3, 100])
def test_frontiers_of_any_size_in_turn_are_drawn_right(fanout: int) -> None:
    world = random_world(num_nodes=3000, num_edges=20_000, parts=3)
    samplers = world.samplers()
    for size in (0, 1, 700, 3, 1500, 2, 700):
        frontier = np.random.default_rng(size).permutation(3000)[:size]
        layer = draw_layer(samplers, 1, frontier, fanout)
        world.check(layer, frontier, fanout)


def test_several_partitions_draw_what_one_would() -> None:
    many = random_world(num_nodes=500, num_edges=4000, parts=4)
    one = World(many.sources, many.destinations, many.starts[[0, -1]])
    frontier = np.random.default_rng(0).permutation(500)[:200]
    for fanout in (-1, 4):
        ours = draw_layer(many.samplers(), 2, frontier, fanout)
        theirs = draw_layer(one.samplers(), 0, frontier, fanout)
        assert np.array_equal(ours.indptr, theirs.indptr)
        assert ours.edge_ids is not None
        assert theirs.edge_ids is not None
        assert np.array_equal(ours.edge_ids, theirs.edge_ids)
        assert np.array_equal(ours.indices, theirs.indices)
        assert np.array_equal(ours.nodes, theirs.nodes)


def test_global_ids_beyond_2_31_are_not_cut() -> None:
    world = random_world(num_nodes=300, num_edges=2000, parts=2, first=2**40)
    shifted = World(world.sources, world.destinations, np.array([0, *world.starts]))
    samplers = [NeighborSampling(shifted.view(part)) for part in (1, 2)]
    frontier = 2**40 + np.arange(0, 300, 7)
    half = samplers[0].begin(frontier, LayerDraw(3, 1))
    (question,) = half.questions
    assert question.owner == 2
    layer = samplers[0].finish(half, [samplers[1].draw(question.nodes, LayerDraw(3, 1))])
    shifted.check(layer, frontier, 3)


def test_questions_name_each_owner_once_and_its_nodes() -> None:
    world = random_world(num_nodes=40, num_edges=100, parts=4)
    frontier = np.array([35, 1, 12, 30, 25, 3])
    half = world.samplers()[1].begin(frontier, LayerDraw(2, 1))
    assert [question.owner for question in half.questions] == [0, 2, 3]
    assert [question.nodes.tolist() for question in half.questions] == [[1, 3], [25], [35, 30]]
    for question in half.questions:
        assert np.array_equal(frontier[question.positions], question.nodes)


def test_a_frontier_of_inner_nodes_asks_nobody() -> None:
    world = random_world(num_nodes=40, num_edges=100, parts=4)
    assert world.samplers()[1].begin(np.array([12, 15]), LayerDraw(2, 1)).questions == ()


def test_nodes_of_other_partitions_yield_no_edges_here() -> None:
    world = random_world(num_nodes=40, num_edges=400, parts=2)
    edges = world.samplers()[0].draw(np.array([39, 20]), LayerDraw(-1, 1))
    assert edges.counts.tolist() == [0, 0]


def test_a_layer_is_not_finished_without_all_answers() -> None:
    sampling = random_world(num_nodes=40, num_edges=400, parts=2).samplers()[0]
    half = sampling.begin(np.array([1, 39]), LayerDraw(2, 1))
    with pytest.raises(ValueError, match="zip"):
        sampling.finish(half, [])


def test_isolated_nodes_and_a_graph_without_edges_yield_empty_layers() -> None:
    none = np.empty(0, dtype=np.int64)
    world = World(sources=none, destinations=none, starts=np.array([0, 3, 5]))
    for frontier in (np.arange(5), none):
        world.check(draw_layer(world.samplers(), 0, frontier, 5), frontier, 5)


@pytest.mark.parametrize("fanout", [2, 100])
def test_what_a_node_draws_depends_on_key_and_node_alone(fanout: int) -> None:
    view = random_world(num_nodes=100, num_edges=30_000, parts=1).view(0)
    nodes = np.arange(0, 100, 3)
    draws = [LayerDraw(fanout, key) for key in (4, 5)]
    used = NeighborSampling(view)
    first, other = (used.draw(nodes, draw) for draw in draws)
    again = NeighborSampling(view).draw(nodes[::-1], draws[0])

    def by_node(ids: IntArray | None, counts: IntArray) -> list[list[int]]:
        assert ids is not None
        return [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])]

    assert by_node(first.edge_ids, first.counts) == by_node(again.edge_ids, again.counts)[::-1]
    assert by_node(first.edge_ids, first.counts) != by_node(other.edge_ids, other.counts)


def test_keys_of_neighbouring_numbers_and_orders_differ() -> None:
    numbers = [(seed, rank, epoch) for seed in range(9) for rank in range(9) for epoch in range(9)]
    assert len({draw_key(*each) for each in numbers}) == len(numbers)
    assert draw_key(1, 2) != draw_key(2, 1)
    assert all(0 <= draw_key(*each) < 2**64 for each in numbers)


def test_one_sampler_stays_right_over_many_layers_and_past_the_last_generation() -> None:
    world = random_world(num_nodes=60, num_edges=400, parts=2)
    samplers = world.samplers()
    for sampler in samplers:
        sampler._numbering._generation = 2**31 - 100
    for number in range(300):
        frontier = np.random.default_rng(number).permutation(60)[:20]
        world.check(draw_layer(samplers, number % 2, frontier, 3), frontier, 3)
