"""What policies fetch and cost, for people: tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from rudder.bench.policy_cost import Cost
from rudder.cli.show import figures
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


_NAMES = ("policy", "capacity", "remote", "layout", "ms", "at least", "hits", "flat")


def cost_table(costs: Sequence[Cost]) -> Table:
    """A section per policy."""
    table = figures.table(_NAMES, [_cost_cells(cost) for cost in costs], text=("policy", "layout"))
    for cost, following, line in zip(costs, costs[1:], table.rows, strict=False):
        line.end_section = following.variant != cost.variant
    return table


def _cost_cells(cost: Cost) -> tuple[str, ...]:
    return (
        cost.variant,
        figures.count(cost.capacity),
        figures.count(cost.num_remote),
        cost.layout,
        f"{cost.ms_per_batch:.2f}",
        f"{cost.ms_per_batch_min:.2f}",
        figures.percent(cost.hit_fraction),
        figures.ABSENT if cost.flatness is None else f"{cost.flatness:.2f}x",
    )


def traffic_table(rows: Sequence[Traffic], *, title: str) -> Group:
    """The policies at each capacity, the capacities one below the other."""
    table = figures.table(
        ("capacity", "policy", "ahead", "fetched", "of all", "/ OPT", "hits", "halo hits",
         "M rows a second"),
        [_cells(row) for row in rows],
        text=("policy",),
    )  # fmt: skip
    for row, line, above in zip(rows, table.rows, [None, *table.rows], strict=False):
        if row.policy == OPT:
            line.style = "bold"
            if above is not None:
                above.end_section = True
    cold, everything = figures.count(rows[0].cold_rows), figures.count(rows[0].remote_rows)
    below = f"without a buffer {everything} rows, each row once {cold}"
    return figures.titled(title, table, below=below)


def _cells(row: Traffic) -> tuple[str, ...]:
    share = row.rows_fetched / row.remote_rows if row.remote_rows else None
    return (
        _capacity_text(row),
        "OPT" if row.policy == OPT else row.policy,
        figures.ABSENT if row.lookahead is None else str(row.lookahead),
        figures.count(row.rows_fetched),
        figures.percent(share),
        figures.ABSENT if row.ratio_to_opt is None else f"{row.ratio_to_opt:.3f}",
        figures.percent(row.hit_fraction),
        figures.percent(row.halo_hit_fraction),
        f"{row.accesses_per_second / 1e6:.1f}",
    )


def _capacity_text(row: Traffic) -> str:
    if isinstance(row.capacity, float):
        return f"{100 * row.capacity:g} %"
    return figures.count(row.capacity_rows)
