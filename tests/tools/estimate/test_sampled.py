"""Sampled accesses: ids numbered in order, and the uses of batches that are no longer kept."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.past_uses import PastUses
from rudder.tools.estimate.sampled import distinct


@pytest.mark.parametrize("spread", [1, 40, 3000, 2**33])
def test_numbers_are_places_among_the_distinct_ids_in_order(spread: int) -> None:
    nodes = np.random.default_rng(spread).integers(0, spread, size=500)
    found, numbers = distinct(nodes)
    assert found.tolist() == sorted(set(nodes.tolist()))
    assert found[numbers].tolist() == nodes.tolist()
    assert found.dtype == numbers.dtype == np.int64


@pytest.mark.parametrize("spread", [50, 2**40])
@pytest.mark.parametrize("asked_every", [1, 7, 200])
def test_sums_are_what_a_dictionary_would_hold_to_the_last_digit(
    spread: int, asked_every: int
) -> None:
    rng = np.random.default_rng(spread)
    past, plain = PastUses(), dict[int, float]()
    for number in range(200):
        nodes = np.unique(rng.integers(0, spread, size=200))
        for node in nodes.tolist():
            plain[node] = plain.get(node, 0.0) + past.weight
        past.add(nodes)
        if number % asked_every == 0:
            assert past.heat(np.array([spread + 1])).of_nodes.tolist() == [0.0]
    assert past.nodes.tolist() == sorted(plain)
    assert past.sums.tolist() == [plain[node] for node in sorted(plain)]


def test_weights_begin_anew_before_they_overflow() -> None:
    past = PastUses(np.array([3]), np.array([2.0**510]), total=2.0**510, weight=2.0**512)
    past.add(np.array([3, 5]))
    assert past.weight == 1.0
    assert past.nodes.tolist() == [3, 5]
    assert past.sums.tolist() == pytest.approx([1.25 * 2**-1e-9, 1.0], rel=0.1)
