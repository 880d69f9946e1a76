"""How much memory new processes may still take: the machine's, or what a cgroup leaves of it."""

from __future__ import annotations

from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def available_memory_bytes() -> int:
    """Bytes that can be taken without swapping or being killed for it."""
    machine = int(psutil.virtual_memory().available)
    left = (left_in_group(group) for group in _own_groups())
    return min([machine, *(num_bytes for num_bytes in left if num_bytes is not None)])


def left_in_group(group: Path) -> int | None:
    """Bytes that a cgroup (version 2) still allows; None if it sets no limit.

    Its file cache counts as used, but gives way; so it is added back.
    """
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None


def _own_groups() -> list[Path]:
    """The cgroup of this process and all above it, where version 2 is mounted."""
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    innermost = _GROUPS / own.lstrip("/")
    return [path for path in [innermost, *innermost.parents] if path.is_relative_to(_GROUPS)]
