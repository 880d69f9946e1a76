"""Finds the cause of a failed run among its processes, and makes the error that users see."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from pathlib import Path

from rudder.training.errors import RunError
from rudder.training.launch.worker import Worker

_LOG_BYTES = 64 * 1024
_LOG_LINES = 6
_NOISE = re.compile(
    r"^\s*$|^Client\[|^Initialize the distributed|^Machine \(|^Client \[|Warning|^\s+warnings\.warn"
    r"|^Server is|^load |^Start to create|^Finished creating|^start graph service"
)
_LOST_PEER = re.compile(
    r"closed by (?:remote )?peer|[Cc]onnection (?:reset|refused|closed)|[Bb]roken pipe|dmlc::Error",
)
_WHEN = {
    "starting": "before it was connected",
    "connected": "before it began to train",
    "training": "while it trained",
    "evaluating": "while it evaluated",
    "finished": "when it had finished",
}
_VMSTAT = Path("/proc/vmstat")


def as_error(failures: Mapping[Worker, str], *, ran_out_of_memory: bool) -> RunError:
    """The error of the failure that explains the others, of equals the first one.

    It names host, rank, what happened, what the log says and what to do. failures: what happened
    to each process that failed or ended too early, in the order in which it was seen.
    """
    worker = min(failures, key=_weight)
    if worker.failed is not None:
        message = f"{worker.role} failed {_when(worker)}: {worker.failed.message}"
        remedy = worker.failed.remedy
    else:
        message = f"{worker.role} {failures[worker]} {_when(worker)}{quote(worker.log)}"
        remedy = _remedy(worker, ran_out_of_memory=ran_out_of_memory)
    error = RunError(
        f"{message}\n  log: {worker.log}",
        remedy=remedy,
        host=worker.role.host.name,
        rank=worker.role.trainer_rank,
    )
    if worker.failed is not None:
        error.exit_code = worker.failed.exit_code
    return error


def _weight(worker: Worker) -> int:
    """0: killed from outside; 1: failed by itself; 2: lost a peer that failed."""
    failed, killed_by = worker.failed, worker.killed_by
    if killed_by is not None and killed_by is not signal.SIGABRT:
        return 0
    has_lost_peer = bool(_LOST_PEER.search(failed.message)) if failed else killed_by is not None
    return 2 if has_lost_peer else 1


def quote(log: Path) -> str:
    """The last informative lines of a log, indented; empty if there are none."""
    lines = [line for line in _tail(log) if not _NOISE.search(line)][-_LOG_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
            return stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _when(worker: Worker) -> str:
    """What the process was doing."""
    if worker.role.name == "server":
        return "while it served" if worker.phase == "connected" else "while it loaded its partition"
    return _WHEN[worker.phase]


def _remedy(worker: Worker, *, ran_out_of_memory: bool) -> str:
    killed_by = worker.killed_by
    if killed_by is signal.SIGKILL and ran_out_of_memory:
        return (
            "the machine ran out of memory (the kernel says so in `dmesg`): use a smaller --buffer,"
            " --batch-size or --lookahead, fewer trainers, or a machine with more memory"
        )
    if killed_by is signal.SIGKILL:
        return (
            "somebody killed it, or a memory limit did (`dmesg` and the job's limits tell);"
            " if it was memory, use a smaller --buffer or --batch-size"
        )
    if killed_by is signal.SIGBUS:
        return "shared memory is full: free /dev/shm or make it larger (`rudder doctor` shows it)"
    if worker.role.name == "server" and worker.phase != "connected":
        return "its partition may be damaged: prepare the graph again (`rudder prepare`)"
    return "read the log; `rudder doctor` checks the machine"


def kills_for_memory() -> int:
    """Processes that this machine's kernel has killed for memory; 0 if it does not tell."""
    try:
        text = _VMSTAT.read_text()
    except OSError:
        return 0
    match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else 0
