"""How fast the audit log is written by many, and verified.

    python benchmarks/audit_speed.py                     64 producers, 20 rows/s each, 30 s
    python benchmarks/audit_speed.py --producers 8 --seconds 3 --rows 50000
    python benchmarks/audit_speed.py --way sync --way inline --way rest

Every producer is a process with a file of its own, as controllers are. It appends at random
moments, one in each period of the rate, for controllers do not keep step, and rests once a second,
as a controller does with each window. Of an append's milliseconds, `cpu` is what it took, `core`
what it waited for a core, `disk` all other waiting; `late`: it began so long after its moment,
because the producer rested or had no core. `verify` walks one log of --rows rows, pages and indexes
included.

Ways: `rest`, as it is: commits do not wait for the disk, checkpoints are made at rest; `inline`:
checkpoints are made by commits; `sync`: and every commit waits for the disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from rudder.memory.journal import AuditEntry
from rudder.memory.migrations import RUN_FILE
from rudder.memory.redaction import Redaction
from rudder.memory.run.audit import AuditLog
from rudder.memory.run.run_reader import RunReader
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.store import Store

_SCHEDULED = Path("/proc/self/schedstat")
_INLINE = "PRAGMA wal_autocheckpoint = 1000"
_WAYS = {"rest": (), "inline": (_INLINE,), "sync": (_INLINE, "PRAGMA synchronous = FULL")}


@dataclass(frozen=True)
class Append:
    """Milliseconds of one append."""

    wall: float
    cpu: float
    core: float
    disk: float
    late: float


def produce(
    path: Path, way: str, all_open: Barrier, results: Queue[list[Append]],
    per_second: float, seconds: float,
) -> None:  # fmt: skip
    """Append at a steady rate, and rest every second."""
    store = Store.open(path, migrations=RUN_FILE)
    for pragma in _WAYS[way]:
        store.db.execute(pragma)
    log = AuditLog(store, run_key="bench", rank=0, redaction=Redaction())
    entries = sample_entries(sample_episode(0, workload=sample_workload()))
    all_open.wait()
    began, found = time.time(), []
    for number in range(int(per_second * seconds)):
        due = began + (number + random.random()) / per_second
        time.sleep(max(0.0, due - time.time()))
        found.append(_append(log, entries[number % len(entries)], due=due))
        if way == "rest" and number % int(per_second) == 0:
            store.rest()
    all_open.wait()
    store.close()
    results.put(found)


def _append(log: AuditLog, entry: AuditEntry, *, due: float) -> Append:
    late = 1000 * max(0.0, time.time() - due)
    core, cpu, wall = _core_wait_ms(), time.thread_time(), time.perf_counter()
    log.append(entry)
    wall, cpu = 1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)
    waited = max(0.0, wall - cpu)
    core = min(_core_wait_ms() - core, waited)
    return Append(wall=wall, cpu=cpu, core=core, disk=waited - core, late=late)


def _core_wait_ms() -> float:
    """How long this process was ready to run, and did not."""
    return int(_SCHEDULED.read_text().split()[1]) / 1e6


def append_cost(
    producers: int, *, way: str, per_second: float, seconds: float, folder: Path
) -> dict[str, object]:
    """Milliseconds of an append over all producers."""
    fork = multiprocessing.get_context("fork")
    all_open, results = fork.Barrier(producers), fork.Queue()
    given = (way, all_open, results, per_second, seconds)
    processes = [
        fork.Process(target=produce, args=(folder / f"{way}{rank}.db", *given))
        for rank in range(producers)
    ]
    for process in processes:
        process.start()
    found = [each for _ in processes for each in results.get()]
    for process in processes:
        process.join()
    columns = zip(*(astuple(each) for each in found), strict=True)
    spreads = {
        f"{field.name}_ms": spread(column)
        for field, column in zip(fields(Append), columns, strict=True)
    }
    return {"way": way, "producers": producers, "rows": len(found), **spreads}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Middle, tail and worst."""
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 3),
        "p99": round(ranked[int(len(ranked) * 0.99)], 3),
        "max": round(ranked[-1], 3),
    }


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


def main() -> None:
    """Print both figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--producers", type=int, default=64)
    parser.add_argument("--per-second", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--way", choices=list(_WAYS), action="append", help="default: rest")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        appended = [
            append_cost(
                options.producers,
                way=way,
                per_second=options.per_second,
                seconds=options.seconds,
                folder=Path(name),
            )
            for way in options.way or ["rest"]
        ]
        verified = verify_rate(options.rows, folder=Path(name))
    print(json.dumps({"append": appended, "verify": verified}, indent=2))


if __name__ == "__main__":
    main()
