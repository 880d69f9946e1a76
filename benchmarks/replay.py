"""Decisions of simulated runs, stored, and made again with sockets blocked.

    python -m benchmarks.replay                        1,000 decisions
    python -m benchmarks.replay --decisions 50

Run it in the repository's root: the runs are those of the tests (tests/agents/replay/made.py), of
all planners by turns, each with the memory of those before. Exits 1 unless all come out equal.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.shared import parser_of
from rudder.agents.replay.recorded import Replayed, replay
from rudder.memory.run.run_reader import RunReader
from tests.agents.replay.made import make_runs


async def replayed(path: Path) -> list[Replayed]:
    """All decisions of a rank's file."""
    with RunReader(path) as reader:
        return [each async for each in replay(reader)]


def rehearse(decisions: int) -> dict[str, object]:
    """Make at least so many decisions, and make them again; counts and processor time."""
    results: Counter[str] = Counter()
    planners: Counter[str] = Counter()
    num_runs, num_calls, seconds = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for path in make_runs(Path(folder), decisions=decisions):
            began = time.process_time()
            found = asyncio.run(replayed(path))
            seconds += time.process_time() - began
            results.update(each.result for each in found)
            planners.update(each.episode.plan.planner for each in found)
            num_runs += 1
            with RunReader(path) as reader:
                num_calls += len(reader.model_calls())
    return {
        "decisions": results.total(),
        **{name: results[name] for name in ("equal", "different", "not replayable")},
        "runs": num_runs,
        "planners": dict(planners),
        "model calls": num_calls,
        "cpu ms per replayed decision": round(1000 * seconds / results.total(), 1),
    }


def main() -> None:
    """Parse, rehearse, print."""
    found = rehearse(parser_of(__doc__, decisions=1000).parse_args().decisions)
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["equal"] == found["decisions"] else 1)


if __name__ == "__main__":
    main()
