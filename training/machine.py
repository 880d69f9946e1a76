"""How the memory of a host is divided among the buffers of its trainers."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
from pathlib import Path

from rudder.training.errors import MachineError
from rudder.training.host_memory import HostMemory

_VMSTAT = Path("/proc/vmstat")
_PR_SET_PDEATHSIG = 1


def available_memory_bytes() -> int:
    """Bytes that can be taken without swapping or being killed."""
    return HostMemory.now().left_bytes


_DISK = (errno.ENOSPC, errno.EDQUOT)


def as_machine_error(error: BaseException) -> MachineError | None:
    """The error with its remedy; None if it has another cause."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _DISK:
        remedy = "free some space on that disk, or choose another with --run-dir or --out"
        return MachineError(text, remedy=remedy)
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        remedy = "use a smaller --buffer, --batch-size or --lookahead, or a larger machine"
        return MachineError(text, remedy=remedy)
    return None


def kills_for_memory() -> int:
    """Processes that this machine's kernel has killed for memory; 0 if it does not tell."""
    try:
        text = _VMSTAT.read_text()
    except OSError:
        return 0
    match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def die_with(parent_pid: int | str | None, *, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel kill this process when its parent ends for any reason (Linux prctl(2)).

    number: the signal; ends at once if the parent has ended already; None: which one it was is not
    known.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if parent_pid is not None and os.getppid() != int(parent_pid):
        os._exit(1)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far, shared memory that it touched included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


TRAINERS_VARIABLE = "RUDDER_TRAINERS_ON_MACHINE"
"""Environment variable with the number of trainers of all hosts that share this machine."""
BUDGET_FRACTION = 0.5
"""Of the available memory, for all buffers together where no budget is given: batches, models and
what other processes still take need the rest."""


def rows_per_trainer(num_bytes: int, *, trainers: int, row_bytes: int) -> int:
    """Rows of each buffer where the buffers of `trainers` trainers share `num_bytes` evenly."""
    return num_bytes // max(trainers, 1) // max(row_bytes, 1)


def max_buffer_rows(*, row_bytes: int, trainers_on_host: int) -> int:
    """The most rows that a trainer's buffer may have in the memory that is available now."""
    trainers = int(os.environ.get(TRAINERS_VARIABLE, trainers_on_host))
    num_bytes = int(BUDGET_FRACTION * available_memory_bytes())
    return rows_per_trainer(num_bytes, trainers=trainers, row_bytes=row_bytes)


def why_no_buffer(budget_bytes: int | None, *, trainers: int, row_bytes: int) -> str | None:
    """Why no trainer of the host can have a buffer, and what would do; None where each can.

    budget_bytes: of all buffers of the host, None: no limit; row_bytes: of one node's inputs.
    """
    least = max(trainers, 1) * row_bytes
    if budget_bytes is None or budget_bytes >= least:
        return None
    sharers = "one trainer" if trainers <= 1 else f"{trainers} trainers"
    return (
        f"a memory budget of {budget_bytes} bytes leaves no buffer: one row takes {row_bytes}"
        f" bytes, and {sharers} share the budget; give {least} bytes or more"
    )
