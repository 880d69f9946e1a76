"""Processor time and memory of a job's processes, read from outside while they run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


def cpu_seconds_of_children() -> float:
    """Processor seconds of all processes below this one that are running, since their start."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@dataclass(frozen=True)
class Use:
    """Processor seconds of one controller since its start, and its largest memory seen."""

    cpu_seconds: float
    peak_rss_bytes: int


class ControllerGauge:
    """Reads the processes whose ids are in a job's folder of control sockets."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._uses: dict[str, Use] = {}

    def read(self) -> dict[str, Use]:
        """The use by name of the socket (`rank0-1`); of an ended process, its last reading."""
        for file in self._control.glob("rank*.pid"):
            with suppress(OSError, ValueError, psutil.Error):
                self._take(file.stem, psutil.Process(int(file.read_text())))
        return dict(self._uses)

    def _take(self, name: str, process: psutil.Process) -> None:
        with process.oneshot():
            times, resident = process.cpu_times(), process.memory_info().rss
        before = self._uses.get(name, Use(0.0, 0))
        self._uses[name] = Use(
            cpu_seconds=times.user + times.system,
            peak_rss_bytes=max(before.peak_rss_bytes, resident),
        )
