"""On which kind of file system a path lies; SQLite's write-ahead log works on local ones only."""

from __future__ import annotations

import re
from pathlib import Path

from rudder.training.errors import MachineError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "afs",
        "ncpfs",
        "9p",
        "orangefs",
        "pvfs2",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.beegfs",
        "fuse.lustre",
    ]
)


def file_system_of(path: Path, *, mounts: str | None = None) -> str | None:
    """The type of the file system that holds `path` (which need not exist); None: not known.

    mounts: text in the form of /proc/self/mountinfo; default: this machine's.
    """
    if mounts is None:
        mounts = _MOUNTS.read_text() if _MOUNTS.exists() else ""
    where = path.absolute().resolve()
    depth, found = -1, None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(_unescape(fields.split()[4]))
        if where.is_relative_to(point) and len(point.parts) >= depth:
            depth, found = len(point.parts), rest.split()[0]
    return found


def refuse_network(path: Path, *, mounts: str | None = None) -> None:
    """Raise MachineError where `path` lies on a network file system."""
    kind = file_system_of(path, mounts=mounts)
    if kind in _NETWORK:
        raise MachineError(
            f"{path} lies on a network file system ({kind}), where SQLite's write-ahead log and its"
            " locks do not work and files get damaged",
            remedy="put the file on a local disk; `rudder memory merge` brings the files of several"
            " hosts together",
        )


def _unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
