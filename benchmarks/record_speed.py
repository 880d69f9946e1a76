"""How long appends to the audit log, its verification, and recalls of past episodes take.

    python -m benchmarks.record_speed
    python -m benchmarks.record_speed --producers 8 --seconds 3 --rows 50000 --episodes 10000

- append: every producer is a process with a file of its own, as controllers are. It appends at a
  random moment in each period of the rate, and rests once a second, as a controller does with each
  window. Of an append's milliseconds, `cpu` is processor time, `core` waiting for a core, `disk`
  all other waiting. rss_growth: of the producer whose resident memory has grown most, since a tenth
  of its rows; descriptors: of the producer that has most open; broken: files that `verify` refuses.
- verify: walks one log of --rows rows.
- recall: of five episodes of a memory of --episodes, made up as those of real runs are: workloads
  of 200 sizes, in circumstances around 1,000 centres. wall_ms, cpu_ms: of a recall but the first;
  open_mib: how much the largest size of a process grows when it opens the memory and asks once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import resource
import sqlite3
import time
from argparse import Namespace
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.shared import run_study, spread
from rudder.memory.journal import AuditEntry
from rudder.memory.migrations import RUN_FILE
from rudder.memory.past.circumstances import NUM_FEATURES
from rudder.memory.past.experience import Experience, PastEpisode
from rudder.memory.past.recall import Recall
from rudder.memory.run.audit import AuditLog
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.tables import crc32_of
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.store import Redaction, Store

_SCHEDULED = Path("/proc/self/schedstat")
_RESULTS = ("confirmed", "reverted", "kept")
_TIME = "2026-01-01T00:00:00.000000Z"
_PARTS = ("wall", "cpu", "core", "disk")


class Produced(NamedTuple):
    """What a producer found. milliseconds: float32[rows, _PARTS], of each append."""

    milliseconds: NDArray[np.float32]
    rss_growth: float
    num_descriptors: int


def produce(
    path: Path, all_open: Barrier, results: Queue[Produced], per_second: float, seconds: float
) -> None:  # fmt: skip
    """Append at a steady rate, and rest every second."""
    store = Store.open(path, migrations=RUN_FILE)
    log = AuditLog(store, run_key="bench", rank=0, redaction=Redaction())
    entries = sample_entries(sample_episode(0, workload=sample_workload()))
    all_open.wait()
    began, process, sizes = time.time(), psutil.Process(), []
    found = np.ones((int(per_second * seconds), len(_PARTS)), np.float32)
    for number in range(len(found)):
        time.sleep(max(0.0, began + (number + random.random()) / per_second - time.time()))
        found[number] = _append(log, entries[number % len(entries)])
        if number in (len(found) // 10, len(found) - 1):
            sizes.append(process.memory_info().rss)
        if number % int(per_second) == 0:
            store.rest()
    all_open.wait()
    num_open = process.num_fds()
    store.close()
    results.put(Produced(found, sizes[-1] / sizes[0], num_open))


def _append(log: AuditLog, entry: AuditEntry) -> tuple[float, float, float, float]:
    """Milliseconds of one append, as _PARTS names them."""
    core, cpu, wall = _core_wait_ms(), time.thread_time(), time.perf_counter()
    log.append(entry)
    wall, cpu = 1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)
    waited = max(0.0, wall - cpu)
    core = min(_core_wait_ms() - core, waited)
    return wall, cpu, core, waited - core


def _core_wait_ms() -> float:
    """How long this process was ready to run, and did not."""
    return int(_SCHEDULED.read_text().split()[1]) / 1e6


def append_cost(options: Namespace, folder: Path) -> dict[str, object]:
    """Milliseconds of an append over all producers."""
    fork = multiprocessing.get_context("fork")
    all_open, results = fork.Barrier(options.producers), fork.Queue()
    given = (all_open, results, options.per_second, options.seconds)
    processes = [
        fork.Process(target=produce, args=(folder / f"{rank}.db", *given))
        for rank in range(options.producers)
    ]
    for process in processes:
        process.start()
    produced = [results.get() for _ in processes]
    for process in processes:
        process.join()
    rows = np.concatenate([each.milliseconds for each in produced])
    return {
        "producers": options.producers,
        "rows": len(rows),
        "rss_growth": round(max(each.rss_growth for each in produced), 3),
        "descriptors": max(each.num_descriptors for each in produced),
        "broken": sum(not _holds(folder / f"{rank}.db") for rank in range(options.producers)),
        **{f"{name}_ms": spread(rows[:, at].tolist()) for at, name in enumerate(_PARTS)},
    }


def _holds(path: Path) -> bool:
    with RunReader(path) as reader:
        return reader.verify().holds


def verify_rate(num_rows: int, *, folder: Path) -> dict[str, float]:
    """Rows per second of verify."""
    path = folder / "verify.db"
    store = Store.open(path, migrations=RUN_FILE)
    log = AuditLog(store, run_key="bench", rank=0, redaction=Redaction())
    entries = sample_entries(sample_episode(0, workload=sample_workload()))
    store.db.execute("PRAGMA synchronous = OFF")
    for number in range(num_rows):
        log.append(entries[number % len(entries)])
    store.close()
    with RunReader(path) as reader:
        started = time.perf_counter()
        found = reader.verify()
        seconds = time.perf_counter() - started
    assert found.holds
    assert found.rows == num_rows
    return {"rows": num_rows, "rows_per_s": num_rows / seconds}


def fill(path: Path, vectors: NDArray[np.uint8]) -> None:
    """Write episodes with these circumstances; their content is one and the same."""
    work = sample_workload()
    episode = sample_episode(0, workload=work)
    with Experience(path) as experience:
        past = PastEpisode(origin=experience.origin, ended_at=_TIME, workload=work, episode=episode)
        experience.add([past], trusted=True)
    content = episode.model_dump_json()
    numbers, crc = range(2, len(vectors) + 2), crc32_of(content)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
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


def clustered(num_rows: int) -> NDArray[np.uint8]:
    draw = np.random.default_rng(0)
    centres = draw.uniform(8, 72, size=(1000, NUM_FEATURES))
    picked = centres[draw.integers(0, 1000, size=num_rows)]
    return (picked + draw.normal(0, 3, size=picked.shape)).clip(0, 255).astype(np.uint8)


def recall_cost(options: Namespace, path: Path) -> dict[str, object]:
    fill(path, clustered(options.episodes))
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        open_mib = fresh.apply(growth_mib, [path])
    started = time.perf_counter()
    with Recall(path) as recall:
        open_s = time.perf_counter() - started
        asked = [_query(recall, number) for number in range(options.queries + 1)]
    wall, cpu = zip(*asked[1:], strict=True)
    return {"open_s": open_s, "open_mib": open_mib, "wall_ms": spread(wall), "cpu_ms": spread(cpu)}


def growth_mib(path: Path) -> float:
    """Of this process' largest size, from before the memory is opened until it has answered."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Recall(path) as recall:
        _query(recall, 0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


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


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, object]]:
    yield {"append": append_cost(options, folder)}
    yield {"verify": verify_rate(options.rows, folder=folder)}
    yield {"recall": recall_cost(options, folder / "memory.db")}


if __name__ == "__main__":
    run_study(
        __doc__, measure, producers=64, per_second=20.0, seconds=30.0, rows=100_000,
        episodes=1_000_000, queries=1000,
    )  # fmt: skip
