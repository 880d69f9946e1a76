"""How soon a second run on a known workload is as fast as the best settings make it.

    python -m benchmarks.warm_start --seeds 1

Simulated workloads (bench/simulated/cases.py), each run twice under the embedded planner: cold,
with an empty memory, and warm, with other draws and the memory that the cold run's record was
filled into. `cold`, `warm`: steps until speed is and stays within 95 % of the best settings of a
fixed grid; `fixed`: of those settings themselves, from an empty buffer. Workloads whose starting
settings get there when left alone have nothing to learn, and are left out.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.shared import parser_of
from rudder.bench.simulated.cases import GRID, Case, all_cases
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.metrics import Window

_NEAR = 0.95
_LASTING_WINDOWS = 4
_COLD_KEY, _WARM_KEY = "c" * 32, "d" * 32
_OTHER_DRAWS = 1000


def compare(case: Case, *, windows: int, folder: Path) -> dict[str, Any] | None:
    """Steps of both runs of a case; None where there is nothing to learn.

    first_*: the step of the first change.
    """
    alone = _alone(case.trainer(), windows)
    grid = [_alone(case.trainer(settings), windows) for settings in GRID]
    best = max(grid, key=_settled_speed)
    enough = _NEAR * _settled_speed(best)
    if _settled_speed(alone) >= enough:
        return None
    memory = folder / "memory.db"
    cold, first_cold = _steered(
        case, folder / "cold", memory=memory, key=_COLD_KEY, windows=windows
    )
    fill(memory, folder / "cold")
    again = replace(case, seed=case.seed + _OTHER_DRAWS)
    warm, first_warm = _steered(
        again, folder / "warm", memory=memory, key=_WARM_KEY, windows=windows
    )
    return {
        "cold": steps_until(enough, cold),
        "warm": steps_until(enough, warm),
        "fixed": steps_until(enough, best),
        "first_cold": first_cold,
        "first_warm": first_warm,
    }


def steps_until(speed: float, windows: Sequence[Window]) -> int:
    """Steps before the first window from which on the speed, in steps per second, is reached; all
    of them where it never is."""
    speeds = [_speed(window) for window in windows]
    for number, now in enumerate(speeds):
        if now >= speed <= statistics.median(speeds[number : number + _LASTING_WINDOWS]):
            return windows[number].first_step
    return sum(window.num_steps for window in windows)


def _speed(window: Window) -> float:
    return window.num_steps / (window.wall_seconds or float("inf"))


def _settled_speed(windows: Sequence[Window]) -> float:
    return statistics.median(_speed(window) for window in windows[len(windows) // 2 :])


def _alone(trainer: SimulatedTrainer, windows: int) -> tuple[Window, ...]:
    return tuple(trainer.window() for _ in range(windows))


def _steered(
    case: Case, folder: Path, *, memory: Path, key: str, windows: int
) -> tuple[tuple[Window, ...], int | None]:
    """The windows, and the step of the first change."""
    trainer = case.trainer()
    trainer.workload = trainer.workload.model_copy(update={"run_key": key})
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=memory)
    lived = asyncio.run(simulate(trainer, windows=windows, journal=journal))
    journal.close()
    first = next((each.applied.step for each in lived.applied if each.applied), None)
    return lived.windows, first


def main() -> None:
    """Print each workload, and the medians over them."""
    options = parser_of(__doc__, seeds=2, windows=40).parse_args()
    found = {}
    for case in [each for each in all_cases(seeds=options.seeds) if each.stream != "phases"]:
        with tempfile.TemporaryDirectory() as name:
            one = compare(case, windows=options.windows, folder=Path(name))
        if one is not None:
            found[f"{case.stream}, {case.row_ms} ms a row, {case.start}, seed {case.seed}"] = one
    ratios = [one["cold"] / max(one["warm"], 1) for one in found.values()]
    medians = {
        name: statistics.median(one[name] for one in found.values())
        for name in ("cold", "warm", "fixed")
    }
    ratio = {"ratio": statistics.median(ratios), "least ratio": min(ratios)}
    print(json.dumps({**medians, **ratio, "workloads": found}, indent=2))


if __name__ == "__main__":
    main()
