"""The compiled loops of sampling, each against plain Python or against chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rudder.training.partition_view import IntArray
from rudder.training.sampling import kernels


def fits(counts: IntArray, expected: NDArray[np.float64]) -> bool:
    """Pearson's chi-square test, at about one chance in a thousand."""
    freedom = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic < freedom + 3.1 * math.sqrt(2 * freedom) + 4


def picks(*, degree: int, fanout: int, draws: int) -> IntArray:
    """int64[draws, fanout]: picked positions in a row of `degree` edges, drawn again and again."""
    indptr = degree * np.arange(draws + 1)
    picked = np.empty(draws * fanout, dtype=np.int64)
    kernels.pick_edges(np.arange(draws), 0, indptr, fanout, np.uint64(11), picked)
    return picked.reshape(draws, fanout) - indptr[:-1, None]


@pytest.mark.parametrize(
    ("degree", "fanout"), [(7, 3), (6, 1), (6, 5), (66, 65), (68, 66), (64 + 2, 64)]
)
def test_every_subset_of_a_row_is_drawn_equally_often(degree: int, fanout: int) -> None:
    subsets = dict.fromkeys(itertools.combinations(range(degree), fanout), 0)
    for row in np.sort(picks(degree=degree, fanout=fanout, draws=20 * len(subsets)), axis=1):
        subsets[tuple(row.tolist())] += 1
    assert fits(np.array(list(subsets.values())), np.full(len(subsets), 20.0))


@pytest.mark.parametrize("fanout", [5, 80])
def test_draws_of_neighbouring_nodes_are_independent(fanout: int) -> None:
    first = np.sort(picks(degree=100, fanout=fanout, draws=4000), axis=1)[:, 0]
    low = first <= np.median(first)
    pairs = np.bincount(2 * low[:-1] + low[1:], minlength=4)
    share = low.mean()
    expected = [(1 - share) ** 2, share * (1 - share), share * (1 - share), share**2]
    assert fits(pairs, np.array(expected) * pairs.sum())


@pytest.mark.parametrize("fanout", [0, 1, kernels.SCAN_LIMIT, kernels.SCAN_LIMIT + 1, 200])
def test_no_edge_is_picked_twice_and_none_beyond_the_row(fanout: int) -> None:
    drawn = picks(degree=250, fanout=fanout, draws=50)
    assert all(len(set(row)) == fanout for row in drawn.tolist())
    assert ((drawn >= 0) & (drawn < 250)).all()


@given(
    batches=st.lists(
        st.tuples(
            st.lists(st.integers(0, 2**40), unique=True, max_size=8),
            st.lists(st.integers(0, 30), max_size=30),
        ),
        max_size=10,
    )
)
@settings(deadline=None)
def test_numbers_are_given_in_order_of_appearance(
    batches: list[tuple[list[int], list[int]]],
) -> None:
    table = np.zeros((128, 2), dtype=np.int64)
    for generation, (destinations, sources) in enumerate(batches, start=2**31 - 20):
        nodes = np.array(destinations + [-1] * len(sources), dtype=np.int64)
        indices = np.empty(len(sources), dtype=np.int64)
        total = kernels.renumber(
            nodes, len(destinations), np.array(sources, dtype=np.int64), table, generation, indices
        )
        expected = list(dict.fromkeys(destinations + sources))
        assert nodes[:total].tolist() == expected
        assert [expected[i] for i in indices] == sources


def test_destinations_in_the_order_asked_are_counted_in_runs() -> None:
    counts = np.empty(4, dtype=np.int64)
    assert kernels.count_runs(np.array([7, 3, 9, 4]), np.array([7, 7, 9, 4, 4, 4]), counts)
    assert counts.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("destinations", [[3, 7], [7, 3, 7], [5], [7, 3, 5]])
def test_destinations_in_another_order_are_noticed(destinations: list[int]) -> None:
    counts = np.empty(2, dtype=np.int64)
    assert not kernels.count_runs(np.array([7, 3]), np.array(destinations), counts)
