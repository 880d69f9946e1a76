"""Batches are drawn in any order and leave in order; another's sampler has DGL's RPC to itself."""

from __future__ import annotations

import dgl
import numpy as np
import pytest

from rudder.training.loading.batch import InFlightBatch, WholeSample
from rudder.training.loading.sampling_stage import MAX_AT_ONCE
from tests.training.loading.small_world import _IN_EDGES, FANOUTS, World

FAR = np.array([0, 89])
"""Seeds of both other partitions: their first layer needs two answers."""


@pytest.mark.parametrize("seed", range(30))
def test_layers_are_true_samples_whatever_the_order_of_answers(seed: int) -> None:
    world = World(seed)
    stage, drawn = world.sampling, []
    to_come = [InFlightBatch(number=n, seeds=world.seeds()) for n in range(12)]
    while to_come or len(stage):
        while to_come and stage.may_start:
            stage.start(to_come.pop(0))
        if stage.has_drawn:
            drawn.append(stage.in_flight_batches.popleft())
        elif not stage.advance():
            world.pending.receive(0)
    assert [in_flight.number for in_flight in drawn] == list(range(12))
    for in_flight in drawn:
        assert (
            in_flight.layers[0].nodes[: len(in_flight.seeds)].tolist() == in_flight.seeds.tolist()
        )
        for layer, fanout in zip(in_flight.layers, reversed(FANOUTS), strict=True):
            sources = layer.nodes[layer.indices]
            for k, node in enumerate(layer.nodes[: layer.num_dst]):
                own = sources[layer.indptr[k] : layer.indptr[k + 1]].tolist()
                assert len(own) == fanout
                assert set(own) <= set(_IN_EDGES[node].tolist())


def test_a_batch_that_is_drawn_first_waits_for_those_before_it() -> None:
    world = World(0)
    stage = world.sampling
    for number in range(2):
        stage.start(InFlightBatch(number=number, seeds=FAR))
    first, second = stage.in_flight_batches
    while len(second.layers) < len(FANOUTS):
        for ticket in second.tickets:
            second.answers[ticket] = dict(world.wire.waiting)[ticket]
        assert stage.advance()
    assert not stage.has_drawn
    assert not first.layers
    assert not stage.advance()


def test_only_so_many_batches_are_drawn_at_once() -> None:
    stage = World(0).sampling
    for number in range(MAX_AT_ONCE):
        assert stage.may_start
        stage.start(InFlightBatch(number=number, seeds=FAR))
    assert not stage.may_start


def test_another_sampler_is_called_only_while_no_question_is_open() -> None:
    world: World

    def sample(in_flight: InFlightBatch) -> WholeSample:
        seeds = in_flight.seeds
        assert not world.pending.num_open
        block = dgl.create_block(([], []), num_src_nodes=len(seeds), num_dst_nodes=len(seeds))
        return WholeSample(nodes=seeds, blocks=(block,))

    world = World(3, sample_whole=sample)
    seeds = [world.seeds() for _ in range(30)]
    world.add(seeds)
    batches = world.finish()
    assert [batch.seeds.tolist() for batch in batches] == [each.tolist() for each in seeds]
    assert world.wire.pulled
