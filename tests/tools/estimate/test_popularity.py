"""Kinds of nodes from their uses, and batches that are drawn from them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from rudder.tools.estimate.popularity import Popularity, SeenUses
from rudder.training.buffer.policy import IntArray
from tests.training.compiled_loops import run_python

NUM_NODES, EPOCH = 4000, 48


class Epochs:
    """Batches of a run in which a node takes each of its chances with the same probability: each
    epoch has all chances, in another order."""

    def __init__(self, *, mean: float, probability: float, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        rates = self.random.gamma(1.0, mean / probability, NUM_NODES)
        self.chances = np.repeat(np.arange(NUM_NODES), self.random.poisson(rates))
        self.probability = probability

    def batches(self, count: int) -> list[IntArray]:
        found: list[IntArray] = []
        while len(found) < count:
            taken = self.chances[self.random.random(len(self.chances)) < self.probability]
            places = self.random.integers(0, EPOCH, len(taken))
            found += [np.unique(taken[places == batch]) for batch in range(EPOCH)]
        return found[:count]


def seen_of(batches: list[IntArray], *, first: int = 0, epoch_steps: int = EPOCH) -> SeenUses:
    return SeenUses.of(
        np.concatenate(batches),
        steps=np.arange(first, first + len(batches)),
        widths=np.array([len(batch) for batch in batches]),
        num_nodes=NUM_NODES,
        epoch_steps=epoch_steps,
    )


def drawn(seen: SeenUses, count: int, seed: int = 2) -> list[IntArray]:
    random = np.random.default_rng(seed)
    nodes, bounds = Popularity.of(seen, random=random).batches_to_come(count, random=random)
    return np.split(nodes, bounds[1:-1])


def new_nodes(batches: list[IntArray], seen: SeenUses) -> int:
    """That were not used before."""
    return int((seen.uses.sum(axis=0)[np.unique(np.concatenate(batches))] == 0).sum())


@pytest.mark.parametrize(
    ("num_seen", "probability"),
    [(40, 0.1), (72, 0.1), (72, 0.5), (72, 0.95), (200, 0.1), (200, 0.95)],
)
def test_as_many_nodes_are_new_as_in_the_batches_that_come(
    num_seen: int, probability: float
) -> None:
    """Once more than an epoch was seen; before that nothing tells how little uses vary."""
    batches = Epochs(mean=1.5, probability=probability).batches(num_seen + 64)
    seen = seen_of(batches[:num_seen])
    new = new_nodes(batches[num_seen:], seen)
    assert new_nodes(drawn(seen, 64), seen) == pytest.approx(
        new, abs=max(0.15 * new, 0.015 * NUM_NODES)
    )


def test_nodes_that_are_always_used_once_an_epoch_come_once_in_the_next() -> None:
    nodes = np.arange(NUM_NODES)
    random = np.random.default_rng(3)
    orders = [np.array_split(random.permutation(nodes), EPOCH) for _ in range(4)]
    batches = [batch for order in orders for batch in order]
    seen = seen_of(batches[: 3 * EPOCH + 24])
    rest = np.concatenate(drawn(seen, 24))
    is_due = np.isin(nodes, np.concatenate(batches[3 * EPOCH + 24 :]))
    assert is_due[rest].mean() > 0.95
    assert len(np.unique(rest)) == pytest.approx(is_due.sum(), rel=0.2)


def test_nodes_out_of_reach_do_not_come() -> None:
    """A third of all nodes is ever used, each nearly always; of the others nothing is seen."""
    run = Epochs(mean=3.0, probability=0.9)
    run.chances = run.chances[run.chances < NUM_NODES // 3]
    batches = run.batches(3 * EPOCH)
    seen = seen_of(batches)
    unused = int((seen.uses.sum(axis=0) == 0).sum())
    assert unused > NUM_NODES / 2
    assert new_nodes(drawn(seen, 4 * EPOCH), seen) < 0.02 * unused


def test_batches_hold_each_node_once_and_as_often_as_before() -> None:
    random = np.random.default_rng(4)
    shares = np.linspace(0.01, 0.98, NUM_NODES)
    batches = [np.flatnonzero(random.random(NUM_NODES) < shares) for _ in range(4 * EPOCH)]
    come = drawn(seen_of(batches), 10 * EPOCH)
    assert len(come) == 10 * EPOCH
    assert all(len(np.unique(batch)) == len(batch) for batch in come)
    often = np.bincount(np.concatenate(come), minlength=NUM_NODES) / len(come)
    assert np.abs(often - shares).reshape(20, -1).mean(axis=1).max() < 0.12
    assert abs((often - shares).reshape(20, -1).mean(axis=1)).max() < 0.06


@pytest.mark.parametrize("first", [0, 30, 95])
def test_stretches_are_parts_and_halves_of_epochs(first: int) -> None:
    batches = [np.array([number % 7, 7]) for number in range(250)]
    seen = seen_of(batches, first=first)
    ends = first + 250
    assert seen.steps_left == EPOCH - ends % EPOCH
    assert seen.shares[3] == pytest.approx(ends % EPOCH / EPOCH)
    assert seen.shares[0] == pytest.approx(-first % EPOCH / EPOCH)
    whole = ends // EPOCH - -(-first // EPOCH)
    assert seen.num_epochs[1:3].tolist() == [whole // 2, whole - whole // 2]
    steps = (seen.num_epochs * seen.shares).sum() * EPOCH
    assert steps == pytest.approx(250)


def test_short_epochs_are_taken_together_and_missing_batches_left_out() -> None:
    batches = [np.array([1, 2])] * 20
    assert seen_of(batches, epoch_steps=5).epoch_steps == 35
    steps = np.concatenate([np.arange(96), np.arange(120, 160)])
    seen = SeenUses.of(
        np.zeros(len(steps), dtype=np.int64), steps=steps, widths=np.ones(len(steps), dtype=int),
        num_nodes=3, epoch_steps=EPOCH,
    )  # fmt: skip
    assert seen.num_epochs.tolist() == [1, 1, 1, 1]
    assert seen.shares.tolist() == [0, 1, 1, 16 / 48]


def test_one_node_or_equal_ones_are_no_error() -> None:
    for batches in ([np.array([5])], [np.arange(NUM_NODES)] * 60, [np.array([0])] * 100):
        assert len(drawn(seen_of(batches), 50)) == 50


def test_the_same_draw_takes_the_same_nodes_and_another_about_as_many() -> None:
    seen = seen_of(Epochs(mean=1.0, probability=0.3).batches(72))
    new = [new_nodes(drawn(seen, 48, seed=seed), seen) for seed in range(6)]
    assert np.std(new) < 0.1 * np.mean(new)
    for one, other in itertools.pairwise(drawn(seen, 48) for _ in range(2)):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


_LOADED_BY_ESTIMATES = """
import sys
from numba.core.dispatcher import Dispatcher
from rudder.bench.simulated.warm_up import warm_up
from rudder.tools.estimate import popularity

def loaded():
    loops = [value for value in vars(popularity).values() if isinstance(value, Dispatcher)]
    return {loop.__name__: loop.signatures for loop in loops}

popularity.load_ahead()
ahead, has_scipy = loaded(), "scipy.special" in sys.modules
warm_up()
print(has_scipy, all(ahead.values()), ahead == loaded())
"""


def test_all_that_a_fit_loads_can_be_loaded_before_the_first(tmp_path: Path) -> None:
    assert run_python("-c", _LOADED_BY_ESTIMATES, cache=tmp_path) == "True True True\n"
