"""How numbers and tables are written for people: "-" for what was not measured, 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

ABSENT = "-"
WIDTH = 80
"""Columns that every table fits in, if its numbers are of a usual size."""
_MEBIBYTE = 2**20
_LONGEST_WORD = 30
"""Longer words of a column of text, such as paths, go on in the next line."""


def count(value: int | None) -> str:
    """12,345."""
    return ABSENT if value is None else f"{value:,}"


def short_count(value: int) -> str:
    """12,345, or 1.2 M from a million on."""
    return count(value) if value < 10**6 else f"{value / 10**6:,.1f} M"


def seconds(value: float | None) -> str:
    """1.234, or 12.3 from ten seconds on; a clock never reads 0, so 0 was not measured."""
    if not value:
        return ABSENT
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def percent(value: float | None) -> str:
    """63.2 %, of a fraction."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def decimal(value: float | None) -> str:
    """0.8123."""
    return ABSENT if value is None else f"{value:.4f}"


def mebibytes(value: int | None) -> str:
    """12.3 MiB."""
    return ABSENT if value is None else f"{value / _MEBIBYTE:,.1f} MiB"


def plain(value: object) -> str:
    """Any value: whole numbers with commas, others with four digits, the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    text: Collection[str] = (),
) -> Table:
    """A table that neither cuts nor breaks words and numbers.

    names: of the columns; text: those with words, which may take several lines; the others have
    numbers, and their names take as many lines as their numbers are narrow.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    made = Table(box=None, pad_edge=False)
    least = 0
    for place, name in enumerate(names):
        column = [row[place] for row in cells]
        if name in text:
            words = [word for cell in (Text(name), *column) for word in cell.plain.split()]
            width = min(max(map(len, words), default=1), _LONGEST_WORD)
            made.add_column(name, overflow="fold", min_width=width)
        else:
            width = max(*map(len, name.split()), *(cell.cell_len for cell in column), 1)
            heading = textwrap.wrap(name, width, break_on_hyphens=False)
            made.add_column("\n".join(heading), justify="right", no_wrap=True)
        least += width
    made.collapse_padding = least + 2 * len(names) > WIDTH
    for row in cells:
        made.add_row(*row)
    return made


def titled(title: str, made: Table, *, below: str | None = None) -> Group:
    """A table under its title, and what there is to say of it below."""
    notes = [] if below is None else [Text(below, style="italic dim")]
    return Group(Text(title, style="bold"), made, *notes)
