"""Past episodes as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from rudder.cli.show import figures
from rudder.cli.show.audit import prefixes
from rudder.memory.past.experience import EpisodeLine


def memory_table(lines: Sequence[EpisodeLine]) -> Group:
    """One line an episode: rows fetched and exposed wait per step, before and after.

    Episodes are named by as much of their ids as tells them apart.
    """
    names = prefixes({line.episode_id for line in lines})
    rows = [
        (
            names[line.episode_id],
            line.policy,
            line.planner,
            line.result,
            _change(line.rows_before, line.rows_after, digits=0),
            _change(line.wait_ms_before, line.wait_ms_after, digits=2),
            "yes" if line.trusted else "no",
        )
        for line in lines
    ]
    columns = ("episode", "policy", "planner", "result", "rows a step", "wait ms a step", "used")
    table = figures.table(columns, rows, text=("episode", "policy", "planner", "result", "used"))
    notes = _not_used(lines)
    return Group(table) if notes is None else Group(table, notes)


def _not_used(lines: Sequence[EpisodeLine]) -> str | None:
    origins = ", ".join(sorted({line.origin for line in lines if not line.trusted}))
    if not origins:
        return None
    return f"not used: what came from {origins}; `rudder memory trust ORIGIN` has runs use it"


def _change(before: float | None, after: float | None, *, digits: int) -> str:
    ends = (before, after)
    return " -> ".join(figures.ABSENT if end is None else f"{end:,.{digits}f}" for end in ends)
