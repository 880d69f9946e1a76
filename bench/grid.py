"""A grid of fixed settings: every capacity with every lookahead, and the fastest point."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from rudder.bench.results import BenchReport, Spread
from rudder.bench.variants import Variant

FILE_NAME = "grid.json"


@dataclass(frozen=True)
class Grid:
    """Capacities as RunConfig's `buffer` is written, and lookaheads in batches."""

    capacities: tuple[str, ...]
    lookaheads: tuple[int, ...]

    @property
    def points(self) -> tuple[tuple[str, int], ...]:
        """All of them, capacity by capacity."""
        return tuple(itertools.product(self.capacities, self.lookaheads))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """One per point."""
        return tuple(point_of(capacity, lookahead) for capacity, lookahead in self.points)


class GridPoint(BaseModel):
    """Fixed settings, and what was measured with them."""

    model_config = ConfigDict(frozen=True)

    variant: str
    capacity: str
    lookahead: int
    epoch_seconds: Spread
    rows_fetched: int = Field(description="per epoch, over all ranks")
    exposed_wait: float = Field(description="seconds of an epoch, mean over ranks")


class GridReport(BaseModel):
    """`grid.json`: the points measured so far; best: the point with the least median."""

    model_config = ConfigDict(frozen=True)

    best: GridPoint
    points: tuple[GridPoint, ...]
    bench: BenchReport

    @classmethod
    def of(cls, grid: Grid, bench: BenchReport) -> GridReport:
        """The report of a benchmark at one rate; at least one point has a result."""
        results = {result.variant: result for result in bench.results}
        points = tuple(
            GridPoint(
                variant=found.variant,
                capacity=capacity,
                lookahead=lookahead,
                epoch_seconds=found.epoch_seconds,
                rows_fetched=found.rows_fetched,
                exposed_wait=found.breakdown.exposed_wait,
            )
            for capacity, lookahead in grid.points
            if (found := results.get(point_of(capacity, lookahead).text)) is not None
        )
        best = min(points, key=lambda point: point.epoch_seconds.median)
        return cls(best=best, points=points, bench=bench)


def point_of(capacity: str, lookahead: int) -> Variant:
    """The variant with these fixed settings."""
    return Variant(text=f"lookahead:buffer={capacity}+lookahead={lookahead}")
