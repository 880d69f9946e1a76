"""Many kills and damages of a run's file, one after the other, and what came of them."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from rudder.memory.run.run_reader import RunReader, run_file
from tests.memory.damage import copy_of, damage, open_damaged, write_open_run
from tests.memory.kills import kill_one

_KILLS_PER_FILE = 20


def kills(count: int, *, folder: Path, draw: random.Random) -> dict[str, float]:
    """Kill a writer so often; each file is gone on with twenty times."""
    found = [
        kill_one(run_file(folder / str(number // _KILLS_PER_FILE), rank=0), draw=draw)
        for number in range(count)
    ]
    return {
        "kills": count,
        "acknowledged": sum(each.acknowledged for each in found),
        "lost": sum(each.lost for each in found),
        "twice": sum(each.twice for each in found),
        "broken chains": sum(not each.holds for each in found),
        "damaged files": sum(each.moved_away for each in found),
        "longest recovery s": max((each.recovery_s for each in found), default=0.0),
    }


def damages(count: int, *, folder: Path, draw: random.Random) -> dict[str, int]:
    """Damage copies of a killed writer's file and go on with them.

    failed: neither a prefix nor moved away, or not written to afterwards.
    """
    original = write_open_run(folder)
    with RunReader(original) as reader:
        hashes = [row.hash for row in reader.audit()]
    ways = Counter({"prefix": 0, "moved away": 0, "failed": 0})
    for number in range(count):
        path = copy_of(original, folder / str(number))
        damage(path, draw=draw)
        opening = open_damaged(path, hashes=hashes)
        ways[opening.how] += 1
        ways["failed"] += not (opening.is_writing and opening.holds)
        shutil.rmtree(path.parent)
    return dict(ways)
