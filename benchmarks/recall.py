"""How long a recall from a memory of many episodes takes.

    python -m benchmarks.recall                       a million episodes
    python -m benchmarks.recall --episodes 10000 --queries 200

The episodes are made up: workloads of 200 sizes, in circumstances around 1,000 centres, as episodes
of real runs are. wall_ms, cpu_ms: of a recall of five episodes; the first one is not counted.
open_mib: how much the largest size of a process grows when it opens the memory and asks once.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared import parser_of, spread
from rudder.memory.past.circumstances import NUM_FEATURES
from rudder.memory.past.experience import Experience, PastEpisode
from rudder.memory.past.recall import Recall
from rudder.memory.run.tables import crc32_of
from rudder.memory.sample import sample_episode, sample_workload

_RESULTS = ("confirmed", "reverted", "kept")
_TIME = "2026-01-01T00:00:00.000000Z"


def fill(path: Path, vectors: NDArray[np.uint8]) -> None:
    """Write episodes with these circumstances; their content is one and the same."""
    work = sample_workload()
    episode = sample_episode(0, workload=work)
    with Experience(path) as experience:
        past = PastEpisode(origin=experience.origin, ended_at=_TIME, workload=work, episode=episode)
        experience.add([past], trusted=True)
    content = episode.model_dump_json()
    crc = crc32_of(content)
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


def measure(episodes: int, *, queries: int, path: Path) -> dict[str, object]:
    """Fill, open, ask."""
    fill(path, clustered(episodes))
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        open_mib = fresh.apply(growth_mib, [path])
    started = time.perf_counter()
    recall = Recall(path)
    open_s = time.perf_counter() - started
    _query(recall, 0)
    wall, cpu = zip(*(_query(recall, number) for number in range(1, queries + 1)), strict=True)
    recall.close()
    return {"open_s": open_s, "open_mib": open_mib, "wall_ms": spread(wall), "cpu_ms": spread(cpu)}


def growth_mib(path: Path) -> float:
    """Of this process' largest size, from before the memory is opened until it has answered."""
    before = _largest_mib()
    recall = Recall(path)
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
    """Print what was measured as JSON."""
    options = parser_of(__doc__, episodes=1_000_000, queries=1000).parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "memory.db"
        print(json.dumps(measure(options.episodes, queries=options.queries, path=path), indent=2))


if __name__ == "__main__":
    main()
