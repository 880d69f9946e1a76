"""What the studies share: options of the command line, rows of results, spreads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table


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
