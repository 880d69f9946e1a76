"""A line for the user from a process whose log may lie on a full disk."""

from __future__ import annotations

import sys
from contextlib import suppress


def complain(text: str) -> None:
    """Write a line to standard error; where that cannot be written, the work goes on without."""
    with suppress(OSError, ValueError):  # full; closed
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
