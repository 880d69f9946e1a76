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
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.shared import middle, run_study
from rudder.bench.simulated.cases import STREAMS
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings
from rudder.training.simulate.recording import find_traces, read_recording

THRESHOLDS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0)
LOOKAHEADS = (0, 4, 16, 40)
SHARES = (0.05, 0.25, 0.5)
"""Of the nodes that occur, what the buffer holds."""
Workload = tuple[Sequence[IntArray], int, int]
"""Batches of int64 remote numbers, remote nodes, and batches that are not counted at first."""


def rows_fetched(work: Workload, settings: BufferSettings) -> int:
    """Rows after the warm-up, as training/simulate/replay.py counts them."""
    batches, num_remote, warm = work
    none = np.empty(0, dtype=np.int64)
    view = PartitionView(0, np.array([0, 1, num_remote + 1]), np.zeros(2, int), none, none)
    policy = LookaheadBuffer(view, settings)
    observed = rows = 0
    for number, nodes in enumerate(batches):
        while observed < min(number + settings.lookahead_batches + 1, len(batches)):
            policy.observe(batches[observed])
            observed += 1
        misses = len(policy.plan(nodes).misses)
        rows += misses if number >= warm else 0
    return rows


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
        for stream_of in STREAMS.values():
            stream = stream_of(seed)
            drawn = [stream.batch(number) for number in range(batches)]
            yield drawn, stream.num_remote, batches // 3
        yield _scanned(seed, count=batches), 6000, batches // 3
    for file in find_traces(list(runs)) if runs else []:
        found = read_recording(file)
        drawn = [found.batch(number) for number in found.happened]
        warm = min(found.header.batches_per_epoch, len(drawn) // 2)
        yield drawn, found.header.num_remote, warm


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, float]]:
    ratios: dict[tuple[int, float], list[float]] = defaultdict(list)
    for work in workloads(options.runs, seeds=options.seeds, batches=options.batches):
        used = len(np.unique(np.concatenate(work[0])))
        for share, ahead in itertools.product(SHARES, LOOKAHEADS):
            settings = BufferSettings(capacity_rows=round(share * used), lookahead_batches=ahead)
            without = max(rows_fetched(work, settings), 1)
            for threshold in THRESHOLDS:
                lower = settings.model_copy(update={"eviction_threshold": threshold})
                ratios[ahead, threshold].append(rows_fetched(work, lower) / without)
    for (ahead, threshold), found in sorted(ratios.items()):
        yield {"lookahead": ahead, "threshold": threshold, **middle(found)}


if __name__ == "__main__":
    run_study(__doc__, measure, positional=("runs", "*"), seeds=2, batches=480)
