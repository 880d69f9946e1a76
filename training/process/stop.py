"""Whether this trainer was told to write a last checkpoint and end: by SIGTERM or SIGUSR1.

Slurm sends one of them shortly before its limit; the launcher passes its own on. The trainer goes
on until all ranks have agreed on a step (`rudder.training.checkpoint.session`).
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_noted: list[int] = []


def note_stop_signals() -> None:
    """From now on these signals are noted instead of obeyed; call it in the main thread."""
    for number in STOP_SIGNALS:
        signal.signal(number, _note)


def ignore_stop_signals() -> None:
    """For a server, which trainers need until they have ended."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_stop_wanted() -> bool:
    """Whether one has come."""
    return bool(_noted)


def _note(number: int, frame: FrameType | None) -> None:
    del frame
    _noted.append(number)
