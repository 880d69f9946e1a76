r"""What `--record-trace` costs: a recorded run's calls, written again, beside that run's epochs.

    rudder train --dataset synthetic:community-200k --controller none --record-trace \
        --run-dir runs/traced
    python -m benchmarks.trace_cost runs/traced
    python -m benchmarks.trace_cost runs/traced --repeats 9 --json

Per rank: processor time of all threads that recording an epoch takes, of which the caller (the
loader's thread) spends `caller_ms`, and its share of the run's median epoch after the first, which
is what an epoch would grow by if no core were ever free. Medians of the repeats, with min and max.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rudder.training.buffer.policy import IntArray, Plan
from rudder.training.errors import RudderError
from rudder.training.simulate.recording import Recording, find_traces, read_recording
from rudder.training.trace import OBSERVE, PLAN, SKIP, TraceWriter

_WARM_UP = 1


def write_again(recording: Recording, path: Path) -> tuple[float, float]:
    """Write all observed batches and plans to `path`; processor seconds, of them the caller's."""
    batches = iter([recording.batch(number) for number in range(recording.num_observed)])
    plans = iter(recording.planned)
    began, began_here = time.process_time(), time.thread_time()
    writer = TraceWriter(path, recording.header, recording.view)
    for kind in recording.calls.tolist():
        if kind == OBSERVE:
            writer.observe(next(batches))
        elif kind == PLAN:
            writer.plan(_plan(next(plans)))
        elif kind == SKIP:
            writer.skip()
    here = time.thread_time() - began_here
    writer.close()
    return time.process_time() - began, here


def _plan(counts: IntArray) -> Plan:
    """A plan of so many hits, misses and targets; only their numbers are recorded."""
    hits, misses, targets = (np.zeros(int(count), dtype=np.int64) for count in counts)
    return Plan(hits=hits, hit_slots=hits, misses=misses, targets=targets, target_slots=targets)


def cost(trace: Path, *, epoch_seconds: float, repeats: int) -> dict[str, Any]:
    """Cost of one rank's trace per epoch, beside an epoch of `epoch_seconds`."""
    recording = read_recording(trace)
    recording.view  # noqa: B018 - built once, outside the time
    epochs = recording.num_observed / recording.header.batches_per_epoch
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / trace.name
        found = [write_again(recording, path) for _ in range(_WARM_UP + repeats)][_WARM_UP:]
    all_threads = [1000 * seconds / epochs for seconds, _ in found]
    share = 100 * statistics.median(all_threads) / (1000 * epoch_seconds)
    return {
        "rank": recording.header.rank,
        "cpu_ms_per_epoch": _spread(all_threads),
        "caller_ms_per_epoch": _spread([1000 * seconds / epochs for _, seconds in found]),
        "bytes_per_access": round(trace.stat().st_size / len(recording.nodes), 2),
        "epoch_s": round(epoch_seconds, 3),
        "share_of_epoch_percent": round(share, 2),
    }


def _spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    found = {"min": min(values), "median": middle, "max": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, recorded with --record-trace")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        traces = find_traces([arguments.run])
        summary = json.loads((arguments.run / "summary.json").read_text())
        epoch = statistics.median(summary["epoch_seconds"][1:] or summary["epoch_seconds"])
        rows = [
            cost(each, epoch_seconds=epoch, repeats=max(1, arguments.repeats)) for each in traces
        ]
    except (RudderError, OSError) as error:
        sys.exit(f"{error}")
    print(json.dumps(rows, indent=2) if arguments.json else "\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
