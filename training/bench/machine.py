"""The machine that something was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

_CPU_TABLE = Path("/proc/cpuinfo")


class Machine(BaseModel):
    """What a reader of figures has to know of it."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    kernel: str

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        return cls(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=psutil.virtual_memory().total,
            kernel=platform.release(),
        )


def _cpu_model(table: Path = _CPU_TABLE) -> str:
    lines = table.read_text().splitlines() if table.exists() else []
    fields = (line.partition(":") for line in lines)
    return next(
        (value.strip() for key, _, value in fields if key.strip() == "model name"),
        platform.machine(),
    )
