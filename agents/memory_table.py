"""Past episodes as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rudder.agents import figures
from rudder.memory.catalog import Line


def memory_table(lines: Sequence[Line]) -> Table:
    """One line an episode: rows fetched and exposed wait per step, before and after."""
    table = Table(box=None, pad_edge=False)
    for name in ("episode", "policy", "planner", "result", "rows/step", "wait ms/step", "used"):
        table.add_column(name, justify="right" if "step" in name else "left")
    for line in lines:
        table.add_row(
            line.episode_id,
            line.policy,
            line.planner,
            line.result,
            _change(line.rows_before, line.rows_after, digits=0),
            _change(line.wait_ms_before, line.wait_ms_after, digits=2),
            "yes" if line.trusted else f"no ({line.origin})",
        )
    return table


def _change(before: float | None, after: float | None, *, digits: int) -> str:
    ends = (before, after)
    return " -> ".join(figures.ABSENT if end is None else f"{end:,.{digits}f}" for end in ends)
