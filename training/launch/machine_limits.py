"""Errors of Python, torch and DGL that mean that the machine has run out of something."""

from __future__ import annotations

import errno

from rudder.training.errors import MachineError

_DISK = (errno.ENOSPC, errno.EDQUOT)


def as_machine_error(error: BaseException) -> MachineError | None:
    """The error with its remedy if disk or memory are used up; None if it is of another kind."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _DISK:
        remedy = "free some space on the disk of the run folder, or choose another with --run-dir"
        return MachineError(text, remedy=remedy)
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        remedy = "use a smaller --buffer, --batch-size or --lookahead, or a larger machine"
        return MachineError(text, remedy=remedy)
    return None
