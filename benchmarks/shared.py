"""What the studies share: options, rows of results, spreads, and records of applied changes."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from rudder.training.errors import DataError


class Row(BaseModel):
    """One row of results; its fields are the columns of the table."""

    model_config = ConfigDict(frozen=True)


def parser_of(doc: str | None, **defaults: float) -> argparse.ArgumentParser:
    """A parser with the module's docstring as its help, and an option per default value."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=shape)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print rows as JSON for programs, or as a table for people."""
    if as_json:
        print(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    names = list(type(rows[0]).model_fields) if rows else []
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*[_cell(getattr(row, name)) for name in names])
    Console(width=200).print(table, highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return " ".join(_cell(each) for each in value)
    return str(value)


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest value."""
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[int(len(ranked) * 0.99)], 3),
        "max": round(ranked[-1], 3),
    }


@dataclass(frozen=True)
class EstimateError:
    """How near estimates of rows fetched came: of `changes`, `within` were at most 5 % off.

    median, worst: of the absolute relative errors; None without a change.
    """

    changes: int
    within: int
    median: float | None
    worst: float | None

    @classmethod
    def of(cls, errors: Sequence[float]) -> EstimateError:
        sizes = [abs(error) for error in errors]
        return cls(
            changes=len(sizes),
            within=sum(size <= 0.05 for size in sizes),
            median=statistics.median(sizes) if sizes else None,
            worst=max(sizes, default=None),
        )


def records_below(folders: Iterable[Path]) -> Iterator[Path]:
    """The records of all ranks in and below these folders; raises DataError if one has none."""
    for folder in folders:
        files = sorted(folder.rglob("steering/rank*.db"))
        if not files:
            raise DataError(
                f"nothing below {folder} was steered", remedy="name folders of runs or benchmarks"
            )
        yield from files
