"""Past episodes as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from rudder.cli.show import figures
from rudder.cli.show.audit import prefixes
from rudder.memory.past.experience import EpisodeLine
from rudder.training.workload import Workload


def memory_table(lines: Sequence[EpisodeLine]) -> Group:
    """One line an episode: rows fetched and exposed wait per step, before and after.

    Episodes and runs are named by as much of their ids as tells them apart.
    """
    names = prefixes({line.episode_id for line in lines})
    runs = prefixes({line.run_key for line in lines}, least=6)
    rows = [
        (
            names[line.episode_id],
            f"{runs[line.run_key]} rank {line.rank}, {line.ended_at[:16].replace('T', ' ')}",
            _work(line.workload),
            f"{line.planner}: {line.result}{'' if line.trusted else ', not used'}",
            _change(line.rows_before, line.rows_after, digits=0),
            _change(line.wait_ms_before, line.wait_ms_after, digits=1),
        )
        for line in lines
    ]
    columns = ("episode", "run, time (UTC)", "work", "planner: result")
    table = figures.table((*columns, "rows a step", "wait ms a step"), rows, text=columns)
    notes = _not_used(lines)
    return Group(table) if notes is None else Group(table, notes)


def _work(work: Workload) -> str:
    """What tells works apart: policy, partition and batch."""
    return f"{work.policy}, part {work.part} of {work.num_parts}, batch {work.batch_size:,}"


def _not_used(lines: Sequence[EpisodeLine]) -> str | None:
    origins = ", ".join(sorted({line.origin for line in lines if not line.trusted}))
    if not origins:
        return None
    return f"not used: what came from {origins}; `rudder memory trust ORIGIN` has runs use it"


def _change(before: float | None, after: float | None, *, digits: int) -> str:
    ends = (before, after)
    return " -> ".join(figures.ABSENT if end is None else f"{end:,.{digits}f}" for end in ends)
