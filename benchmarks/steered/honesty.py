"""Honesty: how near estimates of rows fetched came to what was measured, over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rudder.bench.steering_record import ChangeStats, EstimateError, change_stats_below
from steered.show import Row


class Honest(Row):
    """fraction: share of the measured changes whose rows error is at most 5 %; unmeasured: applied
    ones of which nothing was foretold, or whose trial ended before the buffer had settled."""

    folder: str
    changes: int
    unmeasured: int
    fraction: float | None
    median_error: float | None
    worst_error: float | None


def estimate_error(folders: Sequence[Path]) -> list[Honest]:
    """One row for each folder that was steered from, and one for all."""
    by_folder: dict[str, list[ChangeStats]] = {}
    for folder, stats in change_stats_below(folders):
        by_folder.setdefault(str(folder), []).append(stats)
    rows = [_row(folder, found) for folder, found in by_folder.items()]
    everything = [stats for found in by_folder.values() for stats in found]
    return [*(row for row in rows if row.changes), _row("all", everything)]


def _row(folder: str, all_stats: Sequence[ChangeStats]) -> Honest:
    found = EstimateError.of([error for stats in all_stats for error in stats.rows_errors])
    return Honest(
        folder=folder,
        changes=found.changes,
        unmeasured=sum(stats.unmeasured for stats in all_stats),
        fraction=found.fraction,
        median_error=found.median_error,
        worst_error=found.worst_error,
    )
