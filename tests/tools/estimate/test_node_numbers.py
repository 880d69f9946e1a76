"""Ids are numbered in order, whether they lie close together or not."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.sampled import distinct


@pytest.mark.parametrize("spread", [1, 40, 3000, 2**33])
def test_numbers_are_places_among_the_distinct_ids_in_order(spread: int) -> None:
    nodes = np.random.default_rng(spread).integers(0, spread, size=500)
    found, numbers = distinct(nodes)
    assert found.tolist() == sorted(set(nodes.tolist()))
    assert found[numbers].tolist() == nodes.tolist()
    assert found.dtype == numbers.dtype == np.int64
