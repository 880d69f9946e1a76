"""What turns bring: decisions until a simulated job is as fast as with the best fixed settings.

    python -m benchmarks.team --seeds 20

Eight ranks train in step over a link that they share, from a poor buffer, once as a team and once
with each rank on its own. benchmarks/README.md says what the fields mean.
"""

from __future__ import annotations

import asyncio
import statistics
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from benchmarks.shared import run_study
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.job import JobRun, SimulatedJob, simulate_job
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import Objective, SteeringOptions

Row: TypeAlias = dict[str, str | float | None]
RANKS = 8
REACHED = 0.97
"""Of the speed of the best fixed settings."""
CASES: tuple[tuple[Objective, float, float, float], ...] = (
    ("time", 0.8, 0.2, 1.0),
    ("time", 0.8, 0.2, 3.0),
    ("time", 0.3, 0.6, 1.0),
    ("memory", 0.8, 0.2, 1.0),
)
"""Objective, exponent, milliseconds a row, and times as many on the last rank."""
_SMOOTHED = 5
"""Windows whose mean time is compared."""


NUM_REMOTE = 3000
STARTS: dict[Objective, BufferSettings] = {
    "time": BufferSettings(capacity_rows=30, lookahead_batches=4),
    "memory": BufferSettings(capacity_rows=NUM_REMOTE, lookahead_batches=40),
}
"""A poor buffer, which is to grow, and a whole one, of which memory is to be given back."""
GRID = tuple(
    BufferSettings(capacity_rows=rows, lookahead_batches=ahead)
    for rows in (300, 1500, 3000)
    for ahead in (8, 48)
)


@dataclass(frozen=True)
class JobCase:
    """exponent: of the popularity of nodes; slow: times that a row costs on the last rank."""

    objective: Objective
    exponent: float
    row_ms: float
    slow: float
    seed: int

    def job(self, settings: BufferSettings) -> SimulatedJob:
        """At its first step; every rank has accesses and noise of its own."""
        return SimulatedJob(
            [
                SimulatedTrainer(
                    ZipfStream(
                        num_remote=NUM_REMOTE,
                        draws=300,
                        exponent=self.exponent,
                        seed=self.seed * RANKS + rank,
                    ),
                    settings=settings,
                    costs=Costs(row_ms=self.row_ms * (self.slow if rank == RANKS - 1 else 1)),
                    rank=rank,
                    world_size=RANKS,
                    seed=self.seed * RANKS + rank,
                )
                for rank in range(RANKS)
            ]
        )


@dataclass(frozen=True)
class Found:
    """One job: windows and decisions until it was as fast, None: it never was; speed: at the end,
    beside the best fixed settings; decisions, reverted, disturbed: in the whole run."""

    windows: int | None
    decisions: int | None
    speed: float
    all_decisions: int
    reverted: int
    disturbed: int


def found_of(run: JobRun, best_s: float) -> Found:
    """best_s: seconds of a window under the best fixed settings, once buffers are full."""
    smooth = [
        statistics.fmean(run.seconds[at : at + _SMOOTHED])
        for at in range(len(run.seconds) - _SMOOTHED + 1)
    ]
    reached = next((at for at, each in enumerate(smooth) if best_s >= REACHED * each), None)
    until = (
        []
        if reached is None
        else [
            each for each in run.decisions if each.observation.step <= (reached + 1) * WINDOW_STEPS
        ]
    )
    outcomes = [each.outcome.result for each in run.episodes if each.outcome is not None]
    return Found(
        windows=reached,
        decisions=None if reached is None else len(until),
        speed=best_s / settled_s(run),
        all_decisions=len(run.decisions),
        reverted=outcomes.count("reverted"),
        disturbed=run.disturbed_reverts,
    )


def settled_s(run: JobRun) -> float:
    """Seconds of a window, in the last quarter."""
    return statistics.fmean(run.seconds[-len(run.seconds) // 4 :])


def fixed(case: JobCase, settings: BufferSettings, windows: int) -> float:
    """Seconds of a window under these settings, once buffers are full."""
    return settled_s(asyncio.run(simulate_job(case.job(settings), windows=windows)))


def steered(case: JobCase, windows: int, *, are_agreed: bool) -> JobRun:
    """From the start of its objective."""
    options = SteeringOptions(objective=case.objective)
    job = case.job(STARTS[case.objective])
    return asyncio.run(simulate_job(job, windows=windows, options=options, are_agreed=are_agreed))


def study(case: JobCase, options: Namespace) -> Iterator[Row]:
    """Two lines of the table; the best fixed settings are those of the first seed."""
    cases, windows = [replace(case, seed=seed) for seed in range(options.seeds)], options.windows
    best = min(GRID, key=lambda each: fixed(cases[0], each, windows))
    bests = [fixed(each, best, windows) for each in cases]
    for name, are_agreed in (("team", True), ("alone", False)):
        found = [
            found_of(steered(each, windows, are_agreed=are_agreed), best_s)
            for each, best_s in zip(cases, bests, strict=True)
        ]
        yield {
            "objective": case.objective, "exponent": case.exponent, "row_ms": case.row_ms,
            "slow": case.slow, "ranks": name,
            "reached": sum(each.windows is not None for each in found), "of": len(found),
            "windows": _median(each.windows for each in found),
            "decisions": _median(each.decisions for each in found),
            "all_decisions": _median(each.all_decisions for each in found),
            "least_speed": round(min(each.speed for each in found), 3),
            "reverted": sum(each.reverted for each in found),
            "disturbed": sum(each.disturbed for each in found),
        }  # fmt: skip


def _median(values: Iterable[int | None]) -> float | None:
    known = [each for each in values if each is not None]
    return statistics.median(known) if known else None


def measure(options: Namespace, folder: Path) -> Iterator[Row]:
    """All cases."""
    for case in CASES:
        yield from study(JobCase(*case, seed=0), options)


if __name__ == "__main__":
    run_study(__doc__, measure, seeds=20, windows=40)
