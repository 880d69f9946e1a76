"""Costs of policies, for people: one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rudder.agents import figures
from rudder.training.bench.policy_cost import Cost

_NAMES = ("capacity", "remote", "layout", "ms", "at least", "hits", "flat")


def print_costs(costs: Sequence[Cost], *, console: Console | None = None) -> None:
    """Print one table, a section per policy; console: default standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("policy", overflow="fold", min_width=10)
    for name in _NAMES:
        table.add_column(name, justify="right", no_wrap=True)
    for cost, following in zip(costs, [*costs[1:], None], strict=True):
        is_last = following is not None and following.variant != cost.variant
        table.add_row(*_cells(cost), end_section=is_last)
    console = Console() if console is None else console
    console.print(table, highlight=False)


def _cells(cost: Cost) -> tuple[str, ...]:
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
