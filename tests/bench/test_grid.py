"""Points of a grid, and the best of them."""

from __future__ import annotations

from rudder.bench.grid import Grid, point_of
from rudder.bench.results import Result, Spread
from rudder.training.config import BufferSize, RunConfig
from rudder.training.metrics import Seconds

GRID = Grid(capacities=("0.1", "64MiB"), lookaheads=(0, 8, 40))


def result(variant: str, seconds: float) -> Result:
    return Result(
        rate="none",
        variant=variant,
        epoch_seconds=Spread(min=seconds, median=seconds, max=seconds),
        turn_seconds=(seconds,),
        first_epoch_seconds=seconds,
        speedup_vs_stock=None,
        paired_speedup_vs_stock=None,
        first_epoch_speedup_vs_stock=None,
        rows_fetched=10,
        remote_rows=100,
        bytes_fetched=1,
        breakdown=Seconds(exposed_wait=0.5),
    )


def test_every_capacity_meets_every_lookahead_and_nothing_steers() -> None:
    configs = [variant.config(RunConfig()) for variant in GRID.variants]
    assert len({(str(config.buffer), config.lookahead) for config in configs}) == 6
    assert configs[-1].buffer == BufferSize.parse("64MiB")
    assert all(config.steering is None and config.policy == "lookahead" for config in configs)


def test_points_know_what_was_measured_at_them_whatever_the_order() -> None:
    results = [result(variant.text, 1.0 + i) for i, variant in enumerate(GRID.variants)]
    points = GRID.points(results[::-1])
    assert [point.epoch_seconds.median for point in points] == [1, 2, 3, 4, 5, 6]
    assert (points[4].capacity, points[4].lookahead) == ("64MiB", 8)
    assert points[4].variant == point_of("64MiB", 8).text
    assert points[4].exposed_wait == 0.5
