"""Planners side by side, for people: one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rudder.agents import figures
from rudder.agents.planner_bench import Standing

_NAMES = (
    "/ fixed", "worst", "/ best", "worst", "rows", "proposed", "applied", "reverted", "off by",
)  # fmt: skip


def planner_table(found: Sequence[Standing]) -> Table:
    """One line a planner; time over that of fixed settings, and of the best fixed settings,
    as geometric means over the cases and the worst of them; lower is better."""
    table = Table(box=None, pad_edge=False)
    table.add_column("planner", overflow="fold", min_width=8)
    for name in _NAMES:
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(
            each.planner,
            f"{each.to_fixed:.3f}",
            f"{each.worst_to_fixed:.3f}",
            f"{each.to_best:.3f}",
            f"{each.worst_to_best:.3f}",
            f"{each.capacity_rows:,.0f}",
            *(figures.count(value) for value in (each.proposed, each.applied, each.reverted)),
            figures.percent(each.rows_error),
        )
    return table
