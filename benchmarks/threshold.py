"""Whether an eviction threshold below 1 ever saves rows under the policy `lookahead`.

    python -m benchmarks.threshold
    python -m benchmarks.threshold runs/one runs/other     also the traces of recorded runs

Each stream of the simulator, and a scan over cold nodes between hot ones, is replayed with every
capacity, lookahead and threshold below; so is each trace. Prints per lookahead and threshold the
rows fetched over those with a threshold of 1: the least, the median and the most of all workloads
and capacities. A ratio below 1 would be a workload on which such a threshold wins.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.shared import parser_of
from rudder.bench.simulated.cases import STREAMS
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings
from rudder.training.simulate.recording import find_traces, read_recording

THRESHOLDS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0)
LOOKAHEADS = (0, 4, 16, 40)
SHARES = (0.05, 0.25, 0.5)
"""Of the nodes that occur, what the buffer holds."""


@dataclass(frozen=True)
class Workload:
    """Batches of int64 remote numbers; warm: batches of these that are not counted."""

    name: str
    batches: Sequence[IntArray]
    num_remote: int
    warm: int

    def rows(self, settings: BufferSettings) -> int:
        """Rows fetched after the warm-up, as training/simulate/replay.py counts them."""
        policy = LookaheadBuffer(_view(self.num_remote), settings)
        observed = rows = 0
        for number, nodes in enumerate(self.batches):
            last = min(number + settings.lookahead_batches + 1, len(self.batches))
            while observed < last:
                policy.observe(self.batches[observed])
                observed += 1
            misses = len(policy.plan(nodes).misses)
            rows += misses if number >= self.warm else 0
        return rows


def _view(num_remote: int) -> PartitionView:
    return PartitionView(
        part=0,
        starts=np.array([0, 1, num_remote + 1]),
        indptr=np.zeros(2, dtype=np.int64),
        indices=np.empty(0, dtype=np.int64),
        halo=np.empty(0, dtype=np.int64),
    )


def _scanned(seed: int, *, hot: int = 300, cold: int = 5700, count: int) -> list[IntArray]:
    """Batches of half of the hot nodes, drawn anew, and the next 300 cold ones of an endless scan:
    the stream for which a threshold was made."""
    random = np.random.default_rng(seed)
    batches = []
    for number in range(count):
        scan = hot + (number * 300 + np.arange(300)) % cold
        batches.append(np.union1d(random.choice(hot, hot // 2, replace=False), scan))
    return batches


def workloads(runs: Sequence[Path], *, seeds: int, batches: int) -> Iterator[Workload]:
    """The simulator's streams, the scan, and the traces of these runs."""
    for seed in range(seeds):
        for name, stream_of in STREAMS.items():
            stream = stream_of(seed)
            drawn = [stream.batch(number) for number in range(batches)]
            yield Workload(name, drawn, stream.num_remote, batches // 3)
        yield Workload("scan", _scanned(seed, count=batches), 6000, batches // 3)
    for file in find_traces(list(runs)) if runs else []:
        found = read_recording(file)
        drawn = [found.batch(number) for number in found.happened]
        warm = min(found.header.batches_per_epoch, len(drawn) // 2)
        yield Workload(str(file), drawn, found.header.num_remote, warm)


def main() -> None:
    """Replay all, and print the ratios."""
    parser = parser_of(__doc__, seeds=2, batches=480)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of recorded runs")
    asked = parser.parse_args()
    ratios: dict[tuple[int, float], list[float]] = defaultdict(list)
    for work in workloads(asked.runs, seeds=asked.seeds, batches=asked.batches):
        used = len(np.unique(np.concatenate(work.batches)))
        for share, ahead in itertools.product(SHARES, LOOKAHEADS):
            settings = BufferSettings(capacity_rows=round(share * used), lookahead_batches=ahead)
            rows = {
                threshold: work.rows(settings.model_copy(update={"eviction_threshold": threshold}))
                for threshold in THRESHOLDS
            }
            for threshold in THRESHOLDS[1:]:
                ratios[ahead, threshold].append(rows[threshold] / max(rows[1.0], 1))
    for (ahead, threshold), found in sorted(ratios.items()):
        line = {"lookahead": ahead, "threshold": threshold, "least": round(min(found), 4)}
        line |= {"median": round(statistics.median(found), 4), "most": round(max(found), 4)}
        print(json.dumps(line))


if __name__ == "__main__":
    main()
