"""How long appends to the audit log take when many processes write, and how fast it is verified.

    python -m benchmarks.audit_speed                     64 producers, 20 rows/s each, 30 s
    python -m benchmarks.audit_speed --producers 8 --seconds 3 --rows 50000

Every producer is a process with a file of its own, as controllers are. It appends at a random
moment in each period of the rate, and rests once a second, as a controller does with each window.
Of an append's milliseconds, `cpu` is processor time, `core` waiting for a core, `disk` all other
waiting; `late`: how long after its moment it began. `verify` walks one log of --rows rows.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.shared import parser_of, spread
from rudder.memory.journal import AuditEntry
from rudder.memory.migrations import RUN_FILE
from rudder.memory.run.audit import AuditLog
from rudder.memory.run.run_reader import RunReader
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.store import Redaction, Store

_SCHEDULED = Path("/proc/self/schedstat")


def produce(
    path: Path, all_open: Barrier, results: Queue[list[dict[str, float]]],
    per_second: float, seconds: float,
) -> None:  # fmt: skip
    """Append at a steady rate, and rest every second."""
    store = Store.open(path, migrations=RUN_FILE)
    log = AuditLog(store, run_key="bench", rank=0, redaction=Redaction())
    entries = sample_entries(sample_episode(0, workload=sample_workload()))
    all_open.wait()
    began, found = time.time(), []
    for number in range(int(per_second * seconds)):
        due = began + (number + random.random()) / per_second
        time.sleep(max(0.0, due - time.time()))
        found.append(_append(log, entries[number % len(entries)], due=due))
        if number % int(per_second) == 0:
            store.rest()
    all_open.wait()
    store.close()
    results.put(found)


def _append(log: AuditLog, entry: AuditEntry, *, due: float) -> dict[str, float]:
    """Milliseconds of one append."""
    late = 1000 * max(0.0, time.time() - due)
    core, cpu, wall = _core_wait_ms(), time.thread_time(), time.perf_counter()
    log.append(entry)
    wall, cpu = 1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)
    waited = max(0.0, wall - cpu)
    core = min(_core_wait_ms() - core, waited)
    return {"wall": wall, "cpu": cpu, "core": core, "disk": waited - core, "late": late}


def _core_wait_ms() -> float:
    """How long this process was ready to run, and did not."""
    return int(_SCHEDULED.read_text().split()[1]) / 1e6


def append_cost(
    producers: int, *, per_second: float, seconds: float, folder: Path
) -> dict[str, object]:
    """Milliseconds of an append over all producers."""
    fork = multiprocessing.get_context("fork")
    all_open, results = fork.Barrier(producers), fork.Queue()
    given = (all_open, results, per_second, seconds)
    processes = [
        fork.Process(target=produce, args=(folder / f"{rank}.db", *given))
        for rank in range(producers)
    ]
    for process in processes:
        process.start()
    found = [each for _ in processes for each in results.get()]
    for process in processes:
        process.join()
    spreads = {f"{name}_ms": spread([each[name] for each in found]) for name in found[0]}
    return {"producers": producers, "rows": len(found), **spreads}


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
    options = parser_of(__doc__, producers=64, per_second=20.0, seconds=30.0, rows=100_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        appended = append_cost(
            chosen.producers,
            per_second=chosen.per_second,
            seconds=chosen.seconds,
            folder=Path(name),
        )
        verified = verify_rate(chosen.rows, folder=Path(name))
    print(json.dumps({"append": appended, "verify": verified}, indent=2))


if __name__ == "__main__":
    main()
