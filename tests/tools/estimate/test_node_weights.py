"""Weights are what a dictionary would hold, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.past_uses import NodeWeights


@pytest.mark.parametrize("spread", [50, 2**40])
def test_weights_are_sums_also_when_there_are_more_and_more_nodes(spread: int) -> None:
    rng = np.random.default_rng(spread)
    weights, plain = NodeWeights(), dict[int, float]()
    for weight in rng.random(60):
        nodes = np.unique(rng.integers(0, spread, size=200))
        weights.add(nodes, weight)
        for node in nodes.tolist():
            plain[node] = plain.get(node, 0.0) + weight
    seen = np.array(list(plain), dtype=np.int64)
    assert weights.of(seen).tolist() == list(plain.values())
    assert weights.of(np.array([spread + 1])).tolist() == [0.0]
    weights.divide(4.0)
    assert weights.of(seen).tolist() == [weight / 4.0 for weight in plain.values()]
