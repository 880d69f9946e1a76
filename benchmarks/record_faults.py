"""What kills and damage do to a run's record, and whether its decisions can be made again.

    nice -n 15 python -m benchmarks.record_faults                              all, 1,000 of most
    python -m benchmarks.record_faults --kills 50 --damages 50 --controller-kills 0

Run it in the repository's root: the faults are those of the tests. Prints a line for each part.

- writers: SIGKILLs of a process that writes a record under full load;
- damages: truncations and flipped bits of the file or its write-ahead log;
- replay: decisions of simulated runs of all planners by turns, made again with sockets blocked;
- controllers: SIGKILLs of real controller processes at a real control port, whose trainer tells a
  window each 20 ms; in one run of five they are started by their command, in the others forked.

Exits 1 if an acknowledged row was lost or is there twice, a change is applied or logged twice or
not logged, a chain broke, a damaged file neither opened as a prefix nor was moved away, a decision
came out different, or a restart took over 5 s, waits for a core not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.shared import run_study
from rudder.agents.replay.recorded import replay
from rudder.memory.run.run_reader import RunReader
from tests.agents.controller_kills import KilledControllers, Toll
from tests.agents.played_trainer import Score
from tests.agents.replay.made import make_runs
from tests.memory.faults import damages, kills

_KILLS_A_RUN = 20
_MAX_RECOVERY_S = 5.0
_PLANNERS = ("collect", "heuristic", "embedded")
_RUNS_A_COLD_ONE = 5
_HARM = (
    "lost", "twice", "unlogged", "invented", "broken", "broken chains", "damaged files", "failed",
    "different", "not replayable",
)  # fmt: skip


def replayed(count: int, *, folder: Path, draw: random.Random) -> dict[str, Any]:
    """Make at least so many decisions, and make them again; counts and processor time."""
    del draw
    results: Counter[str] = Counter()
    seconds = 0.0

    async def results_of(reader: RunReader) -> list[str]:
        return [each.result async for each in replay(reader)]

    for path in make_runs(folder, decisions=count):
        with RunReader(path) as reader:
            began = time.process_time()
            results.update(asyncio.run(results_of(reader)))
            seconds += time.process_time() - began
            results["model calls"] += len(reader.model_calls())
    return {**results, "cpu ms each": round(1000 * seconds / results["equal"], 1)}


def killed_controllers(count: int, *, folder: Path, draw: random.Random) -> dict[str, Any]:
    """Kill so many, twenty in a run; sums, and how long new controllers took."""
    score = Score.recorded()
    found: list[Toll] = []
    for number, first in enumerate(range(0, count, _KILLS_A_RUN)):
        (run_dir := folder / str(number)).mkdir()
        planner, is_warm = _PLANNERS[number % len(_PLANNERS)], number % _RUNS_A_COLD_ONE != 0
        run = KilledControllers(run_dir, score=score, planner=planner, draw=draw, is_warm=is_warm)
        found.append(run.run(min(_KILLS_A_RUN, count - first)))
    names = ("rows", "windows", "applied", "lost", "twice", "unlogged", "invented", "broken")
    took = sorted(each for toll in found for each in toll.recovery_s)
    pairs = [pair for toll in found for pair in zip(toll.recovery_s, toll.waiting_s, strict=True)]
    return {
        "kills": dict(sum((toll.kills for toll in found), Counter[str]())),
        **{name: sum(getattr(toll, name) for toll in found) for name in names},
        "damaged files": sum(toll.moved_away for toll in found),
        "usual recovery by the clock s": round(took[len(took) // 2], 2),
        "longest recovery by the clock s": round(took[-1], 2),
        "longest recovery s": round(max(took - waited for took, waited in pairs), 2),
    }


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """All parts that are not switched off with 0."""
    draw = random.Random(options.seed)
    parts: dict[str, tuple[int, Callable[..., dict[str, Any]]]] = {
        "writers": (options.kills, kills),
        "damages": (options.damages, damages),
        "replay": (options.decisions, replayed),
        "controllers": (options.controller_kills, killed_controllers),
    }
    for name, (count, part) in parts.items():
        if count == 0:
            continue
        (own := folder / name).mkdir()
        with contextlib.redirect_stderr(io.StringIO()):  # what is said of damaged files
            found = part(count, folder=own, draw=draw)
        yield {"part": name, **found}


def holds(line: dict[str, Any]) -> bool:
    """Whether nothing happened that should not."""
    harm = sum(line.get(name, 0) for name in _HARM)
    return harm == 0 and line.get("longest recovery s", 0) <= _MAX_RECOVERY_S


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=holds, kills=1000, damages=500, decisions=1000,
        controller_kills=1000, seed=0,
    )  # fmt: skip
