"""SIGKILL for the controller process of a played trainer, again and again; what is then on disk.

    nice -n 15 python -m benchmarks.controller_kills                   1,000 kills in 50 runs
    python -m benchmarks.controller_kills --kills 40 --seed 1

Run it in the repository's root: trainer and kills are those of the tests (tests/agents). The
controllers are the real processes, at the real control port, under a window each 20 ms; in one run
of five they are started by their command, in the others forked from a process that has made the
imports. Prints a line of JSON for each run and one for all. Exits 1 if an acknowledged row was
lost, a change is applied or logged twice or not logged, a chain broke, a file was damaged, or a new
controller took over 5 s to write its next window, waits for a core not counted.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.shared import parser_of
from tests.agents.controller_kills import KilledControllers, Toll
from tests.agents.played_trainer import Score

_KILLS_A_RUN = 20
_MAX_RECOVERY_S = 5.0
_PLANNERS = ("collect", "heuristic", "embedded")
_RUNS_A_COLD_ONE = 5


def tolls(kills: int, *, seed: int) -> Iterator[tuple[str, bool, Toll]]:
    """The runs, each with its planner and whether its controllers start warm."""
    score, draw = Score.recorded(), random.Random(seed)
    for number, first in enumerate(range(0, kills, _KILLS_A_RUN)):
        planner = _PLANNERS[number % len(_PLANNERS)]
        with tempfile.TemporaryDirectory() as folder:
            is_warm = number % _RUNS_A_COLD_ONE != 0
            run = KilledControllers(
                Path(folder), score=score, planner=planner, draw=draw, is_warm=is_warm
            )
            yield planner, is_warm, run.run(min(_KILLS_A_RUN, kills - first))


def summary(found: list[Toll]) -> dict[str, object]:
    """All runs together: sums, and how long the slowest and the usual new controller took."""
    names = ("rows", "windows", "applied", "lost", "twice", "unlogged", "invented", "broken")
    took = sorted(each for toll in found for each in toll.recovery_s)
    return {
        "kills": dict(sum((toll.kills for toll in found), Counter[str]())),
        **{name: sum(getattr(toll, name) for toll in found) for name in (*names, "moved_away")},
        "recovered": len(took),
        "usual recovery s": round(took[len(took) // 2], 2),
        "longest recovery s": round(took[-1], 2),
        "longest without waits for a core s": round(_longest_of_its_own(found), 2),
    }


def _longest_of_its_own(found: list[Toll]) -> float:
    pairs = [pair for toll in found for pair in zip(toll.recovery_s, toll.waiting_s, strict=True)]
    return max(took - waited for took, waited in pairs)


def main() -> None:
    """Print what was found as JSON."""
    options = parser_of(__doc__, kills=1000, seed=0).parse_args()
    found = []
    for planner, is_warm, toll in tolls(options.kills, seed=options.seed):
        print(json.dumps({"planner": planner, "warm": is_warm, **vars(toll)}), flush=True)
        found.append(toll)
    print(json.dumps(summary(found), indent=2))
    is_late = _longest_of_its_own(found) > _MAX_RECOVERY_S
    sys.exit(is_late or any(toll.harm for toll in found))


if __name__ == "__main__":
    main()
