"""Points of a grid."""

from __future__ import annotations

from rudder.bench.variants import Grid
from rudder.training.config import BufferSize, RunConfig

GRID = Grid(capacities=("0.1", "64MiB"), lookaheads=(0, 8, 40))


def test_every_capacity_meets_every_lookahead_and_nothing_steers() -> None:
    configs = [variant.config(RunConfig()) for variant in GRID.variants]
    assert len({(str(config.buffer), config.lookahead) for config in configs}) == 6
    assert configs[-1].buffer == BufferSize.parse("64MiB")
    assert all(config.steering is None and config.policy == "lookahead" for config in configs)
