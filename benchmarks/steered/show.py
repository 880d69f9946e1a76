"""Rows of a measurement: as JSON for programs, as a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table


class Row(BaseModel):
    """One row; its fields are the columns."""

    model_config = ConfigDict(frozen=True)


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
        return
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    names = list(type(rows[0]).model_fields)
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
