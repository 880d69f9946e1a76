"""How soon a second run on a known workload is as fast as the best settings make it.

    python -m benchmarks.warm_start --seeds 1

Simulated workloads (bench/simulated/cases.py), each run twice under the embedded planner: cold,
with an empty memory, and warm, with other draws and the memory that the cold run's record was
filled into. `cold`, `warm`: steps until speed is and stays within 95 % of the best settings of a
fixed grid; `fixed`: of those settings themselves, from an empty buffer; first_*: the step of the
first change. Workloads whose starting settings get there when left alone have nothing to learn,
and are left out.
"""

from __future__ import annotations

import asyncio
import statistics
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.shared import middle, run_study
from rudder.bench.simulated.cases import GRID, Case, all_cases
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.metrics import Window

_NEAR = 0.95
_LASTING_WINDOWS = 4
_OTHER_DRAWS = 1000
_STEPS = ("cold", "warm", "fixed")


def compare(case: Case, *, windows: int, folder: Path) -> dict[str, Any] | None:
    """Steps of both runs of a case; None where there is nothing to learn."""
    grid = [_alone(case.trainer(settings), windows) for settings in GRID]
    best = max(grid, key=_settled)
    enough = _NEAR * _settled(best)
    if _settled(_alone(case.trainer(), windows)) >= enough:
        return None
    memory = folder / "memory.db"
    cold = _steered(case, folder / "cold", memory, windows=windows)
    fill(memory, folder / "cold")
    again = replace(case, seed=case.seed + _OTHER_DRAWS)
    warm = _steered(again, folder / "warm", memory, windows=windows)
    return {
        "cold": steps_until(enough, cold.windows),
        "warm": steps_until(enough, warm.windows),
        "fixed": steps_until(enough, best),
        "first_cold": _first_change(cold),
        "first_warm": _first_change(warm),
    }


def steps_until(speed: float, windows: Sequence[Window]) -> int:
    """Steps before the first window from which on the speed, in steps per second, is reached; all
    of them where it never is."""
    speeds = _speeds(windows)
    for number, now in enumerate(speeds):
        if now >= speed <= statistics.median(speeds[number : number + _LASTING_WINDOWS]):
            return windows[number].first_step
    return sum(window.num_steps for window in windows)


def _speeds(windows: Sequence[Window]) -> list[float]:
    return [window.num_steps / (window.wall_seconds or float("inf")) for window in windows]


def _settled(windows: Sequence[Window]) -> float:
    return statistics.median(_speeds(windows[len(windows) // 2 :]))


def _alone(trainer: SimulatedTrainer, windows: int) -> tuple[Window, ...]:
    return tuple(trainer.window() for _ in range(windows))


def _steered(case: Case, folder: Path, memory: Path, *, windows: int) -> Run:
    trainer = case.trainer()
    key = ("c" if folder.name == "cold" else "d") * 32
    trainer.workload = trainer.workload.model_copy(update={"run_key": key})
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=memory)
    lived = asyncio.run(simulate(trainer, windows=windows, journal=journal))
    journal.close()
    return lived


def _first_change(run: Run) -> int | None:
    return next((each.applied.step for each in run.applied if each.applied), None)


def measure(options: Namespace, folder: Path) -> dict[str, Any]:
    found = {}
    for case in [each for each in all_cases(seeds=options.seeds) if each.stream != "phases"]:
        name = f"{case.stream}, {case.row_ms} ms a row, {case.start}, seed {case.seed}"
        one = compare(case, windows=options.windows, folder=folder / name)
        if one is not None:
            found[name] = one
    ratios = [one["cold"] / max(one["warm"], 1) for one in found.values()]
    steps = {name: middle([one[name] for one in found.values()]) for name in _STEPS}
    return {**steps, "ratio": middle(ratios), "workloads": found}


if __name__ == "__main__":
    run_study(__doc__, measure, seeds=2, windows=40)
