"""What memory a host has left for this process, and whether it runs short.

Read from the kernel: /proc/meminfo, pressure stall information (PSI), and the memory cgroups that
this process is in, of version 1 or 2, with all above them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_NO_LIMIT = 2**60
"""Version 1 writes a number beyond this where there is no limit."""
STALLED_SHARE = 0.1
"""Of the last 10 s: while tasks stand still for memory for so long, the host runs short. By hand:
far above reading files, far below thrashing."""
LEFT_SHARE = 0.02
"""Of the limit: if less is left, an allocation may have a process killed before any task stalls."""


@dataclass(frozen=True)
class HostMemory:
    """left_bytes: can be taken without swapping or being killed; limit_bytes: of the machine or
    cgroup that leaves least; stalled_share: of the last 10 s, in which some task waited for memory,
    None where the kernel does not tell."""

    left_bytes: int
    limit_bytes: int
    stalled_share: float | None = None

    @classmethod
    def now(cls, root: Path = ROOT) -> HostMemory:
        """Of this process; root: the folder of /proc and /sys. Raises OSError, ValueError or
        KeyError where /proc/meminfo tells nothing."""
        machine = _table(root / "proc/meminfo")
        places = [(1024 * machine["MemAvailable"], 1024 * machine["MemTotal"])]
        groups = list(_groups(root))
        places += [found for group in groups if (found := left_in_group(group)) is not None]
        left_bytes, limit_bytes = min(places)
        files = [root / "proc/pressure/memory", *(group / "memory.pressure" for group in groups)]
        stalls = [share for file in files if (share := stalled_share(file)) is not None]
        return cls(left_bytes, limit_bytes, max(stalls, default=None))

    @property
    def shortage(self) -> str | None:
        """Why the host runs short of memory, in words; None where it does not."""
        if self.stalled_share is not None and self.stalled_share >= STALLED_SHARE:
            return f"processes stood still for memory in {self.stalled_share:.0%} of the last 10 s"
        if self.left_bytes < LEFT_SHARE * self.limit_bytes:
            left, limit = self.left_bytes / 2**20, self.limit_bytes / 2**20
            return f"{left:,.0f} MiB of memory are left of {limit:,.0f} MiB"
        return None


def stalled_share(file: Path) -> float | None:
    """The share of the last 10 s in which some task waited for memory, from a file of PSI; None
    where there is no such file."""
    try:
        line = next(each for each in file.read_text().splitlines() if each.startswith("some "))
        values = dict(part.split("=") for part in line.split()[1:])
        return float(values["avg10"]) / 100
    except (OSError, ValueError, KeyError, StopIteration):
        return None


def left_in_group(group: Path) -> tuple[int, int] | None:
    """Bytes that a cgroup still allows, and its limit; None if it sets none.

    The kernel counts the file cache as used but gives it up on demand, so it is added back. Beyond
    `memory.high` it slows processes down, so that this is a limit, too.
    """
    limits = [_number(group / name) for name in ("memory.max", "memory.high")]
    limits.append(_number(group / "memory.limit_in_bytes"))
    known = [limit for limit in limits if limit is not None and limit < _NO_LIMIT]
    used = _number(group / "memory.current")
    used = _number(group / "memory.usage_in_bytes") if used is None else used
    if not known or used is None:
        return None
    try:
        statistics = _table(group / "memory.stat")
    except (OSError, ValueError):
        statistics = {}
    cache = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    return max(0, min(known) - used + cache), min(known)


def _groups(root: Path) -> Iterator[Path]:
    """The memory cgroups of this process and all above them, where they are mounted."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        tops = [mounts / "memory"] if controllers else [mounts, mounts / "unified"]
        for top in tops:
            innermost = top / path.lstrip("/")
            above = (each for each in innermost.parents if each.is_relative_to(top))
            yield from (each for each in (innermost, *above) if each.is_dir())


def _number(file: Path) -> int | None:
    """None where the file is not there, or says `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _table(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    cells = (line.replace(":", " ").split() for line in file.read_text().splitlines())
    return {name: int(rest[0]) for name, *rest in filter(None, cells)}
