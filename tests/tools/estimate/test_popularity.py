"""Rates of nodes from their uses, and batches that are drawn from them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rudder.tools.estimate.popularity import Popularity
from rudder.training.buffer.policy import IntArray

NUM_NODES, NUM_BATCHES = 20_000, 64


def uses_of(shape: float, *, per_batch: float, seed: int = 1) -> IntArray:
    random = np.random.default_rng(seed)
    rates = random.gamma(shape, per_batch / NUM_NODES / shape, NUM_NODES)
    return random.poisson(rates * NUM_BATCHES)


@pytest.mark.parametrize("shape", [0.1, 0.5, 1.4, 4.0])
@pytest.mark.parametrize("per_batch", [100.0, 2000.0])
def test_the_population_that_uses_were_drawn_from_is_found(shape: float, per_batch: float) -> None:
    found = Popularity.of(uses_of(shape, per_batch=per_batch), num_batches=NUM_BATCHES)
    assert found.shape == pytest.approx(shape, rel=0.25)
    assert found.shape * found.scale * NUM_NODES == pytest.approx(per_batch, rel=0.05)


def test_uses_that_are_all_alike_or_of_one_node_are_no_error() -> None:
    alike = Popularity.of(np.full(100, 7), num_batches=10)
    assert alike.shape == pytest.approx(50, rel=0.1)
    single = Popularity.of(np.eye(1, 100, dtype=np.int64)[0] * 9, num_batches=10)
    assert single.shape == pytest.approx(0.02, rel=0.3)


def batches_after(uses: IntArray, *, count: int, seed: int = 2) -> tuple[IntArray, IntArray]:
    found = Popularity.of(uses, num_batches=NUM_BATCHES)
    random = np.random.default_rng(seed)
    return found.batches_to_come(uses, num_batches=NUM_BATCHES, count=count, random=random)


def test_nodes_that_were_not_used_come_as_often_as_new_ones_do() -> None:
    """Good-Turing: the share of uses that were of nodes used once is that of new nodes."""
    uses = uses_of(1.0, per_batch=1000.0)
    nodes, _ = batches_after(uses, count=300)
    new = (uses[nodes] == 0).sum() / len(nodes)
    assert new == pytest.approx((uses == 1).sum() / uses.sum(), rel=0.1)


@pytest.mark.parametrize("shape", [0.3, 2.0])
def test_nodes_come_for_the_first_time_when_those_of_such_a_population_do(shape: float) -> None:
    random = np.random.default_rng(4)
    rates = random.gamma(shape, 400 / NUM_NODES / shape, NUM_NODES)
    uses, later = random.poisson(rates * NUM_BATCHES), random.poisson(rates * 40)
    nodes, bounds = batches_after(uses, count=160)
    came = np.bincount(nodes[: bounds[40]], minlength=NUM_NODES) > 0
    expected = (later[uses == 0] > 0).sum()
    assert came[uses == 0].sum() == pytest.approx(expected, rel=0.08)


def test_another_draw_takes_other_nodes_but_about_as_many() -> None:
    uses = uses_of(1.0, per_batch=400.0)
    drawn = [batches_after(uses, count=200, seed=seed) for seed in range(8)]
    new = [
        np.unique(nodes[: bounds[48]][uses[nodes[: bounds[48]]] == 0]) for nodes, bounds in drawn
    ]
    counts = np.array([len(each) for each in new])
    assert counts.std() < 0.5 * np.sqrt(counts.mean())
    assert len(np.intersect1d(new[0], new[1])) < 0.5 * counts.mean()


def test_batches_hold_each_node_once_and_as_often_as_before() -> None:
    uses = np.round(np.linspace(0, 0.98, 200) * NUM_BATCHES).astype(np.int64)
    nodes, bounds = batches_after(uses, count=4000)
    assert len(bounds) == 4001
    for begin, end in itertools.pairwise(bounds[:100]):
        assert len(np.unique(nodes[begin:end])) == end - begin
    often = np.bincount(nodes, minlength=200).reshape(20, 10).mean(axis=1) / 4000
    before = uses.reshape(20, 10).mean(axis=1) / NUM_BATCHES
    assert np.abs(often - before).max() < 0.08
