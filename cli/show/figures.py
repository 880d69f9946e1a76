"""How numbers and tables are written for people: "-" for what was not measured, 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

ABSENT = "-"
WIDTH = 80
"""Columns that every table fits in, if its numbers are of a usual size."""
_MEBIBYTE = 2**20
_PIECES = re.compile(r"[^\s:=+./_,-]*(?:[:=+./_,-]|\s+|$)")


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
    """A table that neither cuts nor breaks words and numbers, as far as 80 columns have room.

    names: of the columns; text: those with words, which may take several lines. The others have
    numbers, and their names take several lines where 80 columns are too few. Words that do not fit
    beside the numbers, such as paths, are broken behind punctuation.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    least = {
        place: _least_width(name, [row[place] for row in cells], is_text=name in text)
        for place, name in enumerate(names)
    }
    words = [width for place, width in least.items() if names[place] in text]
    numbers = sum(least.values()) - sum(words)
    free = WIDTH - len(names) - numbers
    room = next((n for n in range(WIDTH, 1, -1) if sum(min(n, w) for w in words) <= free), 1)
    heads = sum(max(width, len(names[place])) for place, width in least.items())
    is_tight = heads + len(names) > WIDTH
    taken = sum(least.values()) if is_tight else heads
    made = Table(box=None, pad_edge=False)
    made.collapse_padding = taken + 2 * len(names) > WIDTH
    for place, name in enumerate(names):
        if name in text:
            made.add_column(name, overflow="fold", min_width=min(least[place], room))
        else:
            width = least[place] if is_tight else max(least[place], len(name))
            heading = textwrap.wrap(name, width, break_on_hyphens=False)
            made.add_column("\n".join(heading), justify="right", no_wrap=True)
    for row in cells:
        texts = [
            _folded(cell, room) if name in text else cell
            for name, cell in zip(names, row, strict=True)
        ]
        made.add_row(*texts)
    return made


def _folded(cell: Text, width: int) -> Text:
    """Break words longer than the width behind punctuation, as in `plan.change.capacity_rows`."""
    lines = [""]
    for piece in _PIECES.findall(cell.plain):
        is_long = len((lines[-1].rpartition(" ")[2] + piece).rstrip()) > width
        lines = [*lines, piece] if is_long and lines[-1] else [*lines[:-1], lines[-1] + piece]
    return Text("\n".join(lines), cell.style)


def _least_width(name: str, column: Sequence[Text], *, is_text: bool) -> int:
    """Of a column of text its longest word; of numbers the widest, or a word of the name."""
    if is_text:
        words = [word for cell in (Text(name), *column) for word in cell.plain.split()]
    else:
        words = [*name.split(), *(line for cell in column for line in cell.plain.split("\n"))]
    return max(map(len, words), default=1)


def titled(title: str, made: Table, *, below: str | None = None) -> Group:
    """A table under its title, and what there is to say of it below."""
    notes = [] if below is None else [Text(below, style="italic dim")]
    return Group(Text(title, style="bold"), made, *notes)
