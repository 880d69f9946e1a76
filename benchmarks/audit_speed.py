"""How fast the audit log is written by many, and verified.

    python benchmarks/audit_speed.py                     64 producers, 20 rows/s each, 10 s
    python benchmarks/audit_speed.py --producers 8 --seconds 3 --rows 50000

Every producer is a process with a file of its own, as controllers are, and appends at a steady
rate; a row is on disk when append returns. `late` counts appends that began over 50 ms after their
time. `verify` walks one log of --rows rows, pages and indexes included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from rudder.memory.audit import AuditLog
from rudder.memory.migrations import RUN_FILE
from rudder.memory.redaction import Redaction
from rudder.memory.run_reader import RunReader
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.store import Store

_LATE_S = 0.05


def produce(
    path: str, all_open: Barrier, results: Queue[list[tuple[float, bool]]],
    per_second: float, seconds: float,
) -> None:  # fmt: skip
    """Append at a steady rate; per append, its milliseconds and whether it began late."""
    store = Store.open(Path(path), migrations=RUN_FILE)
    log = AuditLog(store, run_key="bench", rank=0, redaction=Redaction())
    entries = sample_entries(sample_episode(0, workload=sample_workload()))
    all_open.wait()
    due, found = time.time() + random.uniform(0, 1 / per_second), []
    for number in range(int(per_second * seconds)):
        time.sleep(max(0.0, due - time.time()))
        is_late = time.time() - due > _LATE_S
        began = time.perf_counter()
        log.append(entries[number % len(entries)])
        found.append((1000 * (time.perf_counter() - began), is_late))
        due += 1 / per_second
    all_open.wait()
    store.close()
    results.put(found)


def append_cost(
    producers: int, *, per_second: float, seconds: float, folder: Path
) -> dict[str, float]:
    """Milliseconds of an append over all producers."""
    fork = multiprocessing.get_context("fork")
    all_open, results = fork.Barrier(producers), fork.Queue()
    processes = [
        fork.Process(
            target=produce,
            args=(str(folder / f"rank{rank}.db"), all_open, results, per_second, seconds),
        )
        for rank in range(producers)
    ]
    for process in processes:
        process.start()
    found = [each for _ in processes for each in results.get()]
    for process in processes:
        process.join()
    times = sorted(ms for ms, _ in found)
    return {
        "producers": producers,
        "rows": len(times),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "max_ms": times[-1],
        "late": sum(is_late for _, is_late in found),
    }


def verify_rate(num_rows: int, *, folder: Path) -> dict[str, float]:
    """Rows per second of verify, and of a single producer without pause."""
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


def main() -> None:
    """Print both figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--producers", type=int, default=64)
    parser.add_argument("--per-second", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        appended = append_cost(
            options.producers,
            per_second=options.per_second,
            seconds=options.seconds,
            folder=Path(name),
        )
        verified = verify_rate(options.rows, folder=Path(name))
    print(json.dumps({"append": appended, "verify": verified}, indent=2))


if __name__ == "__main__":
    main()
