"""Milliseconds of a recall from a memory of many episodes.

    python benchmarks/recall.py                       a million episodes
    python benchmarks/recall.py --episodes 10000 --queries 200

The episodes are made up: workloads of 200 sizes, circumstances either around 1,000 centres
(`clustered`, as episodes of real runs are) or anywhere (`uniform`, the worst for an index). The
first query is not counted. Recall reads the keys once, when it is opened. It looks at all of them,
so what it finds is exact.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sqlite3
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.memory.past.circumstances import NUM_FEATURES
from rudder.memory.past.experience import Experience
from rudder.memory.past.past_episode import PastEpisode
from rudder.memory.past.recall import Recall
from rudder.memory.run.episodes import checksum
from rudder.memory.sample import sample_episode, sample_workload

_RESULTS = ("confirmed", "reverted", "kept")
_TIME = "2026-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class Cost:
    """Of one shape of memory; milliseconds per recall of five episodes, read and parsed.

    cpu: processor time, which a busy machine does not change; open_mib: by how much the largest
    size of a process grows when it opens the memory and asks once.
    """

    shape: str
    episodes: int
    queries: int
    open_s: float
    open_mib: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float


def fill(path: Path, vectors: NDArray[np.uint8]) -> None:
    """Write episodes with these circumstances; their content is one and the same."""
    work = sample_workload()
    episode = sample_episode(0, workload=work)
    with Experience.open(path) as experience:
        past = PastEpisode(origin=experience.origin, ended_at=_TIME, workload=work, episode=episode)
        experience.add([past], trusted=True)
    content = episode.model_dump_json()
    crc = checksum(content)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    numbers = range(2, len(vectors) + 2)
    connection.executemany(
        "INSERT INTO episodes VALUES (?, 1, ?, 'bench', 'confirmed', 1, 1, 1, 1, ?, 1, ?, ?)",
        ((number, f"bench-{number}", _TIME, content, crc) for number in numbers),
    )
    connection.executemany(
        "INSERT INTO recall_keys VALUES (?, 'lookahead', ?, ?, 1.0, ?)",
        (
            (number, _RESULTS[number % 3], f"{number % 200:016x}", vector.tobytes())
            for number, vector in zip(numbers, vectors, strict=True)
        ),
    )
    connection.commit()
    connection.close()


def clustered(num_rows: int) -> NDArray[np.uint8]:
    """Around 1,000 centres."""
    draw = np.random.default_rng(0)
    centres = draw.uniform(8, 72, size=(1000, NUM_FEATURES))
    picked = centres[draw.integers(0, 1000, size=num_rows)]
    return (picked + draw.normal(0, 3, size=picked.shape)).clip(0, 255).astype(np.uint8)


def uniform(num_rows: int) -> NDArray[np.uint8]:
    """Anywhere in the usual range of every feature."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 65, size=(num_rows, NUM_FEATURES), dtype=np.uint8)


def measure(shape: str, *, episodes: int, queries: int, folder: Path) -> Cost:
    """Fill, open, ask."""
    path = folder / f"{shape}.db"
    fill(path, {"clustered": clustered, "uniform": uniform}[shape](episodes))
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        open_mib = fresh.apply(growth_mib, [path])
    started = time.perf_counter()
    recall = Recall.open(path)
    open_s = time.perf_counter() - started
    _query(recall, 0)
    found = [_query(recall, number) for number in range(1, queries + 1)]
    recall.close()
    path.unlink()
    times, cpu = (sorted(column) for column in zip(*found, strict=True))
    middle, last = queries // 2, int(queries * 0.99)
    return Cost(
        shape=shape,
        episodes=episodes,
        queries=queries,
        open_s=open_s,
        open_mib=open_mib,
        p50_ms=times[middle],
        p99_ms=times[last],
        max_ms=times[-1],
        cpu_p50_ms=cpu[middle],
        cpu_p99_ms=cpu[last],
    )


def growth_mib(path: Path) -> float:
    """Of this process' largest size, from before the memory is opened until it has answered."""
    before = _largest_mib()
    recall = Recall.open(path)
    _query(recall, 0)
    recall.close()
    return _largest_mib() - before


def _largest_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _query(recall: Recall, number: int) -> tuple[float, float]:
    """Milliseconds by the clock and of the processor."""
    draw = random.Random(number)
    work = sample_workload(halo=draw.randrange(10_000, 10_000_000))
    seen = sample_episode(number, workload=work).observation
    started, started_cpu = time.perf_counter(), time.thread_time()
    found = recall.recall(seen, work, limit=5)
    ended, ended_cpu = time.perf_counter(), time.thread_time()
    assert len(found) == 5
    return 1000 * (ended - started), 1000 * (ended_cpu - started_cpu)


def main() -> None:
    """Print one object per shape as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--shape", choices=["clustered", "uniform"], action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = [
            measure(
                shape,
                episodes=options.episodes,
                queries=options.queries,
                folder=Path(folder),
            )
            for shape in options.shape or ["clustered", "uniform"]
        ]
    print(json.dumps([asdict(cost) for cost in costs], indent=2))


if __name__ == "__main__":
    main()
