"""Honesty: how near estimates of rows fetched came to what was measured, over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rudder.agents.bench_steering import Honesty, deeds_below
from steered.show import Row


class Honest(Row):
    """fraction: share of changes whose rows error is at most 5 %."""

    folder: str
    changes: int
    fraction: float | None
    median_error: float | None
    worst_error: float | None


def honesty(folders: Sequence[Path]) -> list[Honest]:
    """One row for each folder that was steered from, and one for all."""
    by_folder: dict[str, list[float]] = {}
    for folder, deeds in deeds_below(folders):
        by_folder.setdefault(str(folder), []).extend(deeds.rows_errors)
    rows = [_row(folder, errors) for folder, errors in by_folder.items() if errors]
    everything = [error for errors in by_folder.values() for error in errors]
    return [*rows, _row("all", everything)]


def _row(folder: str, errors: Sequence[float]) -> Honest:
    found = Honesty.of(errors)
    return Honest(
        folder=folder,
        changes=found.changes,
        fraction=found.fraction,
        median_error=found.median_error,
        worst_error=found.worst_error,
    )
