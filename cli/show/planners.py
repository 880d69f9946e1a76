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
    rows = [
        (
            each.planner,
            f"{each.to_fixed:.3f}",
            f"{each.worst_to_fixed:.3f}",
            f"{each.to_best:.3f}",
            f"{each.worst_to_best:.3f}",
            f"{each.capacity_rows:,.0f}",
            *(figures.count(value) for value in (each.proposed, each.applied, each.reverted)),
            figures.percent(each.rows_error),
        )
        for each in found
    ]
    return figures.table(("planner", *_NAMES), rows, text=("planner",))


def live_table(found: Sequence[LivePlanner]) -> Table:
    """One row a planner: seconds of a job; these over those of the unsteered and of the embedded
    one, as a median and below it the range over jobs; the p99 of steps; its model's answers."""
    rows = []
    for each in found:
        questions = sum(model.questions for model in each.models)
        passed = [model.pass_at_1 for model in each.models if model.pass_at_1 is not None]
        row = (
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
        rows.append(row)
    names = (
        "planner", "s", "/ unsteered", "/ embedded", "p99 ms", "applied", "undone", "off by",
        "asked", "Pass@1",
    )  # fmt: skip
    return figures.table(names, rows, text=("planner",))


def _ratio(found: Spread | None) -> str:
    if found is None:
        return figures.ABSENT
    return f"{found.median:.3f}\n{found.min:.2f}-{found.max:.2f}"
