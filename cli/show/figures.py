"""How numbers and tables are written for people: "-" for what was not measured."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Column, Table
from rich.text import Text

ABSENT = "-"
WIDTH = 80
"""Columns that every table fits in, if its numbers are of a usual size."""
_BREAKS = (r"\n", r"\s")
"""Where a cell goes on in another line: one of numbers, and one of words."""
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


def score(value: float | None, *, name: str) -> str:
    """An accuracy as 63.2 %, any other score as 0.8123."""
    return percent(value) if name == "accuracy" else decimal(value)


def mebibytes(value: int | None) -> str:
    """12.3 MiB; less than a tenth of one in KiB."""
    if value is None:
        return ABSENT
    if 0 < abs(value) < _MEBIBYTE / 10:
        return f"{value / 1024:,.1f} KiB"
    return f"{value / _MEBIBYTE:,.1f} MiB"


def plain(value: object) -> str:
    """Any value: whole numbers with commas, others with four digits, the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


class _Fitted(Table):
    """Gives each column its least width, and those that could use more what room there is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gaps = (1 if self.collapse_padding else 2) * (len(self.columns) - 1)
        least = sum(column.min_width or 0 for column in self.columns)
        spare = max(options.max_width - gaps - least, 0)
        for left, column in enumerate(sorted(self.columns, key=_wanted), start=-len(self.columns)):
            more = min(_wanted(column), spare // -left)
            column.width, spare = (column.min_width or 0) + more, spare - more
        yield from super().__rich_console__(console, options)


def _wanted(column: Column) -> int:
    """Columns that it could use beyond its least width."""
    return (column.max_width or 0) - (column.min_width or 0)


def table(
    names: Sequence[str], rows: Sequence[Sequence[str | Text]], *, text: Collection[str] = ()
) -> Table:
    """A table whose numbers and words are whole, as far as 80 columns have room.

    names: of the columns; text: those with words, which may take several lines. The others have
    numbers, under names with one word a line.
    """
    widths = [
        max(len(word) for cell in cells for word in re.split(_BREAKS[name in text], str(cell)))
        for name, *cells in zip(
            names, (name.replace(" ", "\n") for name in names), *rows, strict=True
        )
    ]
    words = [width for name, width in zip(names, widths, strict=True) if name in text]
    free = WIDTH - len(names) - (sum(widths) - sum(words))
    room = next((n for n in range(WIDTH, 1, -1) if sum(min(n, w) for w in words) <= free), 1)
    folded = [
        [_folded(cell, room) if name in text else cell for name, cell in each]
        for each in (zip(names, row, strict=True) for row in rows)
    ]
    made = _Fitted(box=None, pad_edge=False)
    made.collapse_padding = sum(widths) + 2 * len(names) > WIDTH
    for name, width, *cells in zip(names, widths, *folded, strict=True):
        if name in text:
            lines = [line for cell in (name, *cells) for line in str(cell).splitlines()]
            longest = max(map(len, lines), default=0)
            least = min(width, room, longest)
            made.add_column(name, overflow="fold", min_width=least, max_width=longest)
        else:
            heading, exact = name.replace(" ", "\n"), {"min_width": width, "max_width": width}
            made.add_column(heading, justify="right", no_wrap=True, **exact)
    for row in folded:
        made.add_row(*row)
    return made


def _folded(cell: str | Text, width: int) -> Text:
    """Break words longer than the width behind punctuation, as in `plan.change.capacity_rows`."""
    words = Text(cell) if isinstance(cell, str) else cell
    lines = [""]
    for piece in _PIECES.findall(words.plain):
        is_long = len((lines[-1].rpartition(" ")[2] + piece).rstrip()) > width
        lines = [*lines, piece] if is_long and lines[-1] else [*lines[:-1], lines[-1] + piece]
    return Text("\n".join(lines), words.style)


def titled(title: str, made: Table, *, below: str | None = None) -> Group:
    """A table under its title, and what there is to say of it below."""
    notes = [] if below is None else [Text(below, style="italic dim")]
    return Group(Text(title, style="bold"), made, *notes)
