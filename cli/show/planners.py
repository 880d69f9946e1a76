"""Planners side by side, for people: one table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.table import Table

from rudder.bench.planners_live import LivePlanner
from rudder.bench.results import Spread
from rudder.bench.simulated.compare import Standing
from rudder.cli.show import figures

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


def live_table(found: Sequence[LivePlanner]) -> Table:
    """One line a planner: seconds of a job, over those of the unsteered and of the embedded one
    (median, least - most of the jobs), the p99 of steps, and what its model was good for."""
    table = Table(box=None, pad_edge=False)
    table.add_column("planner", overflow="fold", min_width=8)
    for name in ("seconds", "/ unsteered", "/ embedded", "step p99\nms", "ap-\nplied",
                 "re-\nverted", "off by", "ques-\ntions", "Pass@1"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        questions = sum(model.questions for model in each.models)
        passed = [model.pass_at_1 for model in each.models if model.pass_at_1 is not None]
        table.add_row(
            each.planner,
            f"{each.seconds:.1f}",
            _ratio(each.to_unsteered),
            _ratio(each.to_embedded),
            figures.ABSENT if each.step_ms_p99 is None else f"{each.step_ms_p99:.1f}",
            figures.count(each.applied),
            figures.count(each.reverted),
            figures.percent(each.rows_error),
            figures.count(questions) if each.models else figures.ABSENT,
            figures.percent(fmean(passed) if passed else None),
        )
    return table


def _ratio(found: Spread | None) -> str:
    if found is None:
        return figures.ABSENT
    return f"{found.median:.3f} ({found.min:.3f}-{found.max:.3f})"
