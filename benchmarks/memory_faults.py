"""What kills, damage and edits do to a run's file; the counts are options.

    python -m benchmarks.memory_faults                                 1,000 / 500 / 10,000
    python -m benchmarks.memory_faults --kills 50 --damages 50 --edits 500

Run it in the repository's root: the faults are those of the tests (tests/memory). Exits 1 if an
acknowledged row was lost or is there twice, a chain broke, a restart took over 5 s, a damaged file
neither opened as a prefix nor was set aside, or an edit that changed the log was not found.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.shared import parser_of
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.sample import write_sample_run
from rudder.training.errors import DataError
from tests.memory.damage import copy_of, damage, open_damaged, write_open_run
from tests.memory.edits import edit_log, log_content
from tests.memory.kills import kill_one

_KILLS_PER_FILE = 20
_MAX_RECOVERY_S = 5.0


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
        "set aside": sum(each.moved_away for each in found),
        "longest recovery s": max((each.recovery_s for each in found), default=0.0),
    }


def damages(count: int, *, folder: Path, draw: random.Random) -> dict[str, int]:
    """Damage copies of a killed writer's file and go on with them."""
    original = write_open_run(folder)
    with RunReader(original) as reader:
        hashes = [row.hash for row in reader.audit()]
    ways: Counter[str] = Counter()
    for number in range(count):
        path = copy_of(original, folder / str(number))
        damage(path, draw=draw)
        try:
            opening = open_damaged(path, hashes=hashes)
            ways[opening.how] += 1
            ways["failed"] += not (opening.is_writing and opening.holds)
        except Exception as error:
            ways["tracebacks"] += 1
            sys.__stderr__.write(f"{number}: {error!r}\n")  # type: ignore[union-attr]
        shutil.rmtree(path.parent)
    return {
        "damages": count,
        **{name: ways[name] for name in ("prefix", "set aside", "failed", "tracebacks")},
    }


def edits(count: int, *, folder: Path, draw: random.Random) -> dict[str, object]:
    """Edit copies of a log; a flipped byte that leaves all that can be read as it was is not an
    edit of the log."""
    original = write_sample_run(folder / "run", num_episodes=12)[0]
    before, path = log_content(original), folder / "edited.db"
    found: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    while found["edits"] < count:
        shutil.copy(original, path)
        kind = edit_log(path, draw=draw)
        if log_content(path) == before:
            found["without effect"] += 1
            continue
        found["edits"] += 1
        kinds[kind] += 1
        found["missed"] += _holds(path)
    return {**found, "kinds": dict(kinds)}


def _holds(path: Path) -> bool:
    try:
        with RunReader(path) as reader:
            return reader.verify().holds
    except DataError:
        return False


def main() -> None:
    """Print what was found as JSON."""
    options = parser_of(__doc__, kills=1000, damages=500, edits=10_000, seed=0).parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folders = [Path(name) / each for each in ("kills", "damages", "edits")]
        for folder in folders:
            folder.mkdir()
        killed = kills(options.kills, folder=folders[0], draw=draw)
        damaged = damages(options.damages, folder=folders[1], draw=draw)
        edited = edits(options.edits, folder=folders[2], draw=draw)
    print(json.dumps({"kills": killed, "damages": damaged, "edits": edited}, indent=2))
    wrong = [killed["lost"], killed["twice"], killed["broken chains"], killed["set aside"]]
    wrong += [damaged["failed"], damaged["tracebacks"], int(str(edited.get("missed", 0)))]
    sys.exit(any(wrong) or killed["longest recovery s"] > _MAX_RECOVERY_S)


if __name__ == "__main__":
    main()
