"""Honesty: how near estimates of rows fetched came to what was measured, over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rudder.agents.bench_steering import Deeds, Honesty, deeds_below
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


def honesty(folders: Sequence[Path]) -> list[Honest]:
    """One row for each folder that was steered from, and one for all."""
    by_folder: dict[str, list[Deeds]] = {}
    for folder, deeds in deeds_below(folders):
        by_folder.setdefault(str(folder), []).append(deeds)
    rows = [_row(folder, found) for folder, found in by_folder.items()]
    everything = [deeds for found in by_folder.values() for deeds in found]
    return [*(row for row in rows if row.changes), _row("all", everything)]


def _row(folder: str, all_deeds: Sequence[Deeds]) -> Honest:
    found = Honesty.of([error for deeds in all_deeds for error in deeds.rows_errors])
    return Honest(
        folder=folder,
        changes=found.changes,
        unmeasured=sum(deeds.unmeasured for deeds in all_deeds),
        fraction=found.fraction,
        median_error=found.median_error,
        worst_error=found.worst_error,
    )
