"""Pictures. matplotlib is imported when one is drawn, not before, and needs no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rudder.training.errors import ConfigError
from rudder.training.simulate.study import OPT, Traffic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ENDINGS = (".png", ".svg", ".pdf")
_SIZE_INCHES = (8.0, 5.0)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f4fc9", "#8c6d31")
"""Told apart by colour-blind readers, too (Okabe and Ito 2008), as far as there are enough."""
_MARKERS = "osD^vPX*"
_HEADROOM = 1.15
"""Top of the picture, in rows fetched without a buffer: what fetches far more leaves it."""


def check_picture(file: Path) -> None:
    """Raise ConfigError unless a picture can be written under this name."""
    if file.suffix.lower() not in _ENDINGS:
        raise ConfigError.for_field(
            "picture", value=str(file), allowed=f"a name that ends in {', '.join(_ENDINGS)}"
        )
    if not file.absolute().parent.is_dir():
        raise ConfigError.for_field(
            "picture", value=str(file), allowed="a file in a folder that exists"
        )


def draw_traffic(rows: Sequence[Traffic], file: Path, *, title: str) -> None:
    """Rows fetched against capacity: a line for each policy, OPT as the floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    in_shares = all(isinstance(row.capacity, float) for row in rows)
    _draw_bounds(axes, rows, in_shares)
    top = _HEADROOM * max(row.remote_rows for row in rows) / 1e6
    for number, (name, line) in enumerate(_lines(rows).items()):
        x, y = _points(line, in_shares)
        axes.plot(
            x,
            y,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            markersize=5,
            label=name if max(y) <= top else f"{name} (up to {max(y):.1f})",
        )
    axes.set_title(title, loc="left")
    unit = "% of each rank's halo nodes" if in_shares else "thousands of rows, all ranks"
    axes.set_xlabel(f"capacity ({unit})")
    axes.set_ylabel("rows fetched (millions)")
    axes.set_xlim(left=0)
    axes.set_ylim(0, max(top, 1e-6))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(file, dpi=150)


def _draw_bounds(axes: Axes, rows: Sequence[Traffic], in_shares: bool) -> None:
    opt = [row for row in rows if row.policy == OPT]
    x, y = _points(opt, in_shares)
    axes.fill_between(x, y, color="#000000", alpha=0.08, linewidth=0)
    axes.plot(x, y, color="black", linewidth=2, marker=".", label="OPT (the least possible)")
    for rows_bound, style, label in (
        (opt[0].remote_rows, "--", "without a buffer"),
        (opt[0].cold_rows, ":", "each row once"),
    ):
        axes.axhline(rows_bound / 1e6, linestyle=style, label=label, color="#555555", linewidth=1)


def _points(line: Sequence[Traffic], in_shares: bool) -> tuple[list[float], list[float]]:
    """Capacities and millions of rows fetched, in ascending order of capacity."""
    ordered = sorted(line, key=lambda row: row.capacity_rows)
    x = [100.0 * row.capacity if in_shares else row.capacity_rows / 1000 for row in ordered]
    return x, [row.rows_fetched / 1e6 for row in ordered]


def _lines(rows: Sequence[Traffic]) -> dict[str, list[Traffic]]:
    """Rows by policy, and by lookahead where there are several, in the order of the rows."""
    others = [row for row in rows if row.policy != OPT]
    several = len({row.lookahead for row in others}) > 1
    lines: dict[str, list[Traffic]] = {}
    for row in others:
        name = f"{row.policy}, {row.lookahead} ahead" if several else row.policy
        lines.setdefault(name, []).append(row)
    return lines
