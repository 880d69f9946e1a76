"""What a job's controllers take of the machine, read from outside while they live."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Use:
    """Of one controller process since it started: processor seconds, and the most bytes seen."""

    cpu_seconds: float
    peak_rss_bytes: int


class ControllerGauge:
    """Reads the processes whose ids lie in a job's folder of sockets."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._uses: dict[str, Use] = {}

    def read(self) -> dict[str, Use]:
        """By name of the socket (`rank0-1`); of one that has ended, what was read last."""
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
