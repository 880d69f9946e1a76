"""The analytic inclusion probability against sampling."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.targets import InclusionProbability
from rudder.training.partition_view import PartitionView

NUM_INNER, NUM_HALO = 60, 20


def random_view(seed: int = 3) -> PartitionView:
    random = np.random.default_rng(seed)
    neighbours = [
        random.choice(NUM_INNER + NUM_HALO, random.integers(1, 6), replace=False)
        for _ in range(NUM_INNER)
    ]
    return PartitionView(
        part=0,
        starts=np.array([0, NUM_INNER, NUM_INNER + NUM_HALO]),
        indptr=np.cumsum([0, *map(len, neighbours)]),
        indices=np.concatenate(neighbours),
        halo=np.arange(NUM_HALO) + NUM_INNER,
    )


def sampled_share(
    view: PartitionView, fanouts: tuple[int, ...], seeds: IntArray, batch_size: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    random = np.random.default_rng(0)
    counts, rounds = np.zeros(NUM_INNER + NUM_HALO), 3000
    for _ in range(rounds):
        reached = set(random.choice(seeds, batch_size, replace=False).tolist())
        for fanout in reversed(fanouts):
            for node in [node for node in reached if node < NUM_INNER]:
                near = view.indices[view.indptr[node] : view.indptr[node + 1]]
                size = len(near) if fanout < 0 else min(fanout, len(near))
                reached |= set(random.choice(near, size, replace=False).tolist())
        counts[list(reached)] += 1
    return np.asarray(counts[NUM_INNER:] / rounds)


@pytest.mark.parametrize("fanouts", [(2,), (2, 1), (-1, 2)])
def test_it_is_near_the_share_of_batches_that_sampling_reaches(fanouts: tuple[int, ...]) -> None:
    view, seeds = random_view(), np.arange(0, NUM_INNER, 2)
    analytic = InclusionProbability(view, fanouts, 3, seeds).of_halo
    sampled = sampled_share(view, fanouts, seeds, 3)
    assert analytic == pytest.approx(sampled, abs=0.07)
    assert np.corrcoef(analytic, sampled)[0, 1] > 0.97


@pytest.mark.parametrize(
    ("fanouts", "seeds", "expected"),
    [
        ((1,), [0], [1 / 2, 0]),
        ((1,), [0, 99], [1 / 4, 0]),
        ((2,), [0], [1, 0]),
        ((-1,), [0], [1, 0]),
        ((1, 1), [0], [1 - (1 - 3 / 4) * (1 - 1 / 8), 1 / 8]),
        ((2, 1), [0], [1, 1 / 4]),
    ],
)
def test_of_two_inner_nodes_it_is_what_paper_and_pencil_say(
    fanouts: tuple[int, ...], seeds: list[int], expected: list[float]
) -> None:
    """Node 0 has the neighbours 1 and 2; node 1 has 0, 2, 3 and 0 again."""
    view = PartitionView(
        part=0,
        starts=np.array([0, 2, 4]),
        indptr=np.array([0, 2, 6]),
        indices=np.array([1, 2, 0, 2, 3, 0]),
        halo=np.array([2, 3]),
    )
    found = InclusionProbability(view, fanouts, 1, np.array(seeds)).of_halo
    assert found == pytest.approx(expected, abs=1e-6)


def test_it_is_the_same_for_a_partition_whose_nodes_are_not_the_first() -> None:
    """The graph of the test above, as partition 1 of 3, with seeds on both sides of its own."""
    view = PartitionView(
        part=1,
        starts=np.array([0, 2, 4, 6]),
        indptr=np.array([0, 2, 6]),
        indices=np.array([1, 2, 0, 2, 3, 0]),
        halo=np.array([0, 4]),
    )
    of_halo = InclusionProbability(view, (1,), 1, np.array([1, 2, 4, 99])).of_halo
    assert of_halo == pytest.approx([1 / 8, 0], abs=1e-6)


def test_all_inner_nodes_are_seeds_where_none_are_named() -> None:
    view = random_view()
    every = InclusionProbability(view, (2, 2), 3, np.arange(NUM_INNER)).of_halo
    assert InclusionProbability(view, (2, 2), 3).of_halo == pytest.approx(every)


def test_a_batch_of_all_seeds_with_all_neighbours_needs_all_of_them_surely() -> None:
    view = random_view()
    near = set(view.indices.tolist())
    of_halo = InclusionProbability(view, (-1,), NUM_INNER).of_halo
    expected = [float(node in near) for node in range(NUM_INNER, NUM_INNER + NUM_HALO)]
    assert of_halo == pytest.approx(expected, abs=1e-6)


def test_seeds_of_other_partitions_reach_nothing_here() -> None:
    view = random_view()
    of_halo = InclusionProbability(view, (5, 5), 1, np.array([NUM_INNER + 1])).of_halo
    assert not of_halo.any()
