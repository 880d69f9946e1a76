"""A short form of a part of benchmarks/record_faults.py."""

from __future__ import annotations

import random
from pathlib import Path

from tests.agents.controller_kills import KilledControllers
from tests.agents.played_trainer import Score
from tests.waiting import WAIT_SECONDS

KILLS = 3


def test_killed_controllers_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    score, draw = Score.recorded(num_windows=3), random.Random(2)
    run = KilledControllers(tmp_path, score=score, planner="heuristic", draw=draw, is_warm=True)
    toll = run.run(KILLS)
    assert toll.kills.total() == KILLS
    assert toll.harm == 0, toll
    assert toll.windows > 0
    assert toll.applied <= toll.rows  # a busy machine may be too late for any change
    assert toll.rows > 0
    own = [took - waited for took, waited in zip(toll.recovery_s, toll.waiting_s, strict=True)]
    assert max(own) <= WAIT_SECONDS
