"""A grid of fixed settings: every capacity with every lookahead, and the fastest point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from rudder.bench.results import BenchReport, Result, Spread
from rudder.bench.variants import Variant


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class Grid:
    """Capacities as RunConfig's `buffer` is written, and lookaheads in batches."""

    capacities: tuple[str, ...]
    lookaheads: tuple[int, ...]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """One per point, capacity by capacity."""
        return tuple(
            point_of(capacity, lookahead)
            for capacity in self.capacities
            for lookahead in self.lookaheads
        )

    def points(self, results: Sequence[Result]) -> tuple[GridPoint, ...]:
        """What was measured at each point that `results`, of one rate, has; at least one."""
        by_text = {result.variant: result for result in results}
        return tuple(
            GridPoint.of(by_text[point_of(capacity, lookahead).text], capacity, lookahead)
            for capacity in self.capacities
            for lookahead in self.lookaheads
            if point_of(capacity, lookahead).text in by_text
        )


class GridPoint(_Frozen):
    """Fixed settings, and what they brought."""

    variant: str
    capacity: str
    lookahead: int
    epoch_seconds: Spread
    rows_fetched: int = Field(description="per epoch, over all ranks")
    exposed_wait: float = Field(description="seconds of an epoch, mean over ranks")

    @classmethod
    def of(cls, result: Result, capacity: str, lookahead: int) -> GridPoint:
        """What was measured at this point."""
        return cls(
            variant=result.variant,
            capacity=capacity,
            lookahead=lookahead,
            epoch_seconds=result.epoch_seconds,
            rows_fetched=result.rows_fetched,
            exposed_wait=result.breakdown.exposed_wait,
        )


class GridReport(_Frozen):
    """`grid.json`: the points measured so far; best: the point with the least median."""

    dataset: str
    rate: str
    command: str
    started: str
    best: GridPoint
    points: tuple[GridPoint, ...]
    bench: BenchReport

    @classmethod
    def of(cls, grid: Grid, bench: BenchReport) -> GridReport:
        """The report of a benchmark at one rate; at least one point has a result."""
        points = grid.points(bench.results)
        return cls(
            dataset=bench.dataset,
            rate=bench.results[0].rate,
            command=bench.command,
            started=bench.started,
            best=min(points, key=lambda point: point.epoch_seconds.median),
            points=points,
            bench=bench,
        )


def point_of(capacity: str, lookahead: int) -> Variant:
    """The variant with these fixed settings."""
    return Variant(text=f"lookahead:buffer={capacity}+lookahead={lookahead}")
