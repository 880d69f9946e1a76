"""A grid of fixed settings as a table."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from rudder.bench.results import BenchReport, MachineFacts, Spread, VariantResult
from rudder.cli.commands.bench import CAPACITIES, LOOKAHEADS, grid_of
from rudder.cli.show.bench import grid_table
from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError
from rudder.training.metrics import Seconds

GRID = grid_of("0.1,0.5", "0,40")


def result(variant: str, seconds: float) -> VariantResult:
    return VariantResult(
        rate="200mbit",
        variant=variant,
        epoch_seconds=Spread(min=seconds - 0.5, median=seconds, max=seconds + 0.25),
        turn_seconds=(seconds,),
        first_epoch_seconds=seconds,
        speedup_vs_stock=None,
        paired_speedup_vs_stock=None,
        first_epoch_speedup_vs_stock=None,
        rows_fetched=10,
        remote_rows=100,
        bytes_fetched=1,
        breakdown=Seconds(),
    )


@pytest.fixture
def report() -> BenchReport:
    seconds = (9.0, 8.0, 7.0, 1.5)
    return BenchReport(
        dataset="synthetic:tiny",
        command="rudder bench grid",
        started="2025-01-02T03:04:05",
        results=tuple(
            result(variant.text, each) for variant, each in zip(GRID.variants, seconds, strict=True)
        )[::-1],
        turns_done=16,
        turns_planned=16,
        repeats=3,
        epochs_per_turn=2,
        network="namespace",
        config=RunConfig(),
        machine=MachineFacts(cpu="Some CPU", cores=2, memory_bytes=2**33, kernel="6"),
        versions={},
    )


def test_the_default_grid_has_24_points() -> None:
    assert len(set(grid_of(CAPACITIES, LOOKAHEADS).variants)) >= 24


def test_the_best_point_is_the_fastest(report: BenchReport) -> None:
    assert report.best.variant == GRID.variant("0.5", 40).text


def test_the_table_has_a_row_a_capacity_and_names_the_best(report: BenchReport) -> None:
    out = StringIO()
    Console(file=out, width=100).print(grid_table(GRID, report))
    lines = out.getvalue().splitlines()
    assert lines[1].split() == ["lookahead", "lookahead"]
    assert lines[2].split() == ["capacity", "0", "40"]
    assert lines[3].split() == ["0.1", "9.000", "8.000"]
    assert "buffer=0.5+lookahead=40, 1.500 s (1.000 - 1.750)" in lines[-1]


def test_a_grid_that_was_stopped_shows_the_points_that_it_has(report: BenchReport) -> None:
    stopped = report.model_copy(update={"results": report.results[1:], "turns_done": 7})
    out = StringIO()
    Console(file=out, width=120).print(grid_table(GRID, stopped))
    lines = out.getvalue().splitlines()
    assert "stopped after 7 of 16 turns" in lines[0]
    assert lines[4].split() == ["0.5", "7.000", "-"]
    assert "buffer=0.5+lookahead=0" in lines[-1]


@pytest.mark.parametrize(("capacity", "lookahead"), [("", "0"), ("0.1", "2000"), ("0.1", "x")])
def test_what_is_no_grid_is_refused(capacity: str, lookahead: str) -> None:
    with pytest.raises(ConfigError):
        grid_of(capacity, lookahead)
