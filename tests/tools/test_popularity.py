"""Rates of nodes from their uses, and batches that are drawn from them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rudder.tools.popularity import Popularity, draw_batches

NUM_NODES, NUM_BATCHES = 20_000, 64


def uses_of(shape: float, *, per_batch: float, seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
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


def test_nodes_that_were_not_used_come_as_often_as_new_ones_do() -> None:
    """Good-Turing: the share of uses that were of nodes used once is that of new nodes."""
    uses = uses_of(1.0, per_batch=1000.0)
    found = Popularity.of(uses, num_batches=NUM_BATCHES)
    rates = found.rates(uses, num_batches=NUM_BATCHES, random=np.random.default_rng(2))
    new = rates[uses == 0].sum() / rates.sum()
    assert new == pytest.approx((uses == 1).sum() / uses.sum(), rel=0.1)


def test_batches_hold_each_node_once_and_as_often_as_its_rate_says() -> None:
    rates = np.linspace(0, 0.99, 200)
    nodes, bounds = draw_batches(rates, num_batches=4000, random=np.random.default_rng(3))
    assert len(bounds) == 4001
    for begin, end in itertools.pairwise(bounds[:100]):
        assert len(np.unique(nodes[begin:end])) == end - begin
    seen = np.bincount(nodes, minlength=200) / 4000
    assert np.abs(seen - rates).max() < 0.04
