"""A loader refuses what it cannot use before it starts a thread, with the name of the argument."""

from __future__ import annotations

import threading
from typing import Any

import dgl
import pytest

from rudder.training.errors import ConfigError
from rudder.training.loader import NodeLoader

SAMPLER = dgl.dataloading.NeighborSampler([2])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"batch_size": 0}, r"batch_size = 0 .* at least 1"),
        ({"inputs": ["feat", "feat"]}, r"inputs = \['feat', 'feat'\][\s\S]*name feat once"),
        ({"outputs": "label"}, r"outputs = 'label'[\s\S]*outputs=\['label'\]"),
        ({"buffer": "big"}, r"BufferOptions.size = 'big' .* a share of the halo"),
        ({"epochs": 1.5}, r"epochs = 1.5 .* whole number"),
        ({"device": "gpu"}, r"device = 'gpu'"),
        ({}, r"graph = 'DGLGraph' .*DistGraph"),
    ],
)
def test_an_argument_that_cannot_be_is_named(arguments: dict[str, Any], named: str) -> None:
    graph = dgl.graph(([0], [1]))
    with pytest.raises(ConfigError, match=named):
        NodeLoader(graph, [0], SAMPLER, **{"batch_size": 4, **arguments})
    assert "rudder-loader" not in {thread.name for thread in threading.enumerate()}
