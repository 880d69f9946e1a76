"""A grid of fixed settings, for people: capacities down, lookaheads across."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from rudder.agents import figures
from rudder.training.bench.grid import GridPoint, GridReport

FILE_NAME = "grid.json"


def write_grid(report: GridReport, out: Path) -> Path:
    """Write `grid.json` into `out`; returns its path."""
    path = out / FILE_NAME
    path.write_text(report.model_dump_json(indent=2) + "\n")
    return path


def read_grid(path: Path) -> GridReport:
    """Read a `grid.json`, or the one in a folder."""
    file = path / FILE_NAME if path.is_dir() else path
    return GridReport.model_validate_json(file.read_text())


def print_grid(report: GridReport, console: Console | None = None) -> None:
    """Print median seconds of an epoch; console: default standard output."""
    console = Console() if console is None else console
    lookaheads = list(dict.fromkeys(point.lookahead for point in report.points))
    title = f"{report.dataset}, rate {report.rate}: median seconds of an epoch"
    console.print(title, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("capacity")
    for lookahead in lookaheads:
        table.add_column(f"lookahead {lookahead}", justify="right")
    for capacity in dict.fromkeys(point.capacity for point in report.points):
        row = {point.lookahead: point for point in report.points if point.capacity == capacity}
        table.add_row(capacity, *[_cell(row[each], report.best) for each in lookaheads])
    console.print(table, highlight=False)
    best = report.best
    spread = f"{best.epoch_seconds.min:.3f} - {best.epoch_seconds.max:.3f}"
    console.print(
        f"best: capacity {best.capacity}, lookahead {best.lookahead},"
        f" {figures.seconds(best.epoch_seconds.median)} s ({spread})",
        highlight=False,
    )


def _cell(point: GridPoint, best: GridPoint) -> str:
    text = figures.seconds(point.epoch_seconds.median)
    return f"[bold]{text}[/bold]" if point == best else text
