"""Files that are written whole, and folders on this machine's own disk.

The folders are for what a run folder cannot hold: network file systems (Lustre, sshfs, some NFS)
have no Unix sockets, or no locks that SQLite's write-ahead log can rely on. Such files are in a
folder of the user's on the local disk: $SLURM_TMPDIR, else the temporary folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from rudder.training.control import unix_socket
from rudder.training.errors import complain

_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|afs|ncpfs|9p|orangefs|pvfs2"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|beegfs|lustre)"
)


def can_replace(path: Path) -> bool:
    """Whether a file can take this place: a device or a pipe is no file to replace."""
    return path.resolve().parent.is_dir() and (path.is_file() or not path.exists())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` if the block ends without an error.

    So there is the whole file, or what was there before. Raises OSError.
    """
    target = path.resolve()
    if not can_replace(target):
        raise OSError(errno.EINVAL, "it is no place for a file", str(path))
    unfinished = target.with_name(f".{target.name}.part")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def file_system_of(path: Path, *, mounts: Mapping[Path, str] | None = None) -> str | None:
    """The type of the file system that holds `path` (which need not exist); None: not known.

    mounts: types by mount point; default: this machine's.
    """
    if mounts is None:
        found = psutil.disk_partitions(all=True)
        mounts = {Path(each.mountpoint): each.fstype for each in found}
    where = path.absolute().resolve()
    above = [point for point in mounts if where.is_relative_to(point)]
    return mounts[max(above, key=lambda point: len(point.parts))] if above else None


def is_network(kind: str | None) -> bool:
    """Whether a type of file system is one that a network serves; None: not known."""
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def own_folder(folder: Path) -> bool:
    """Make a folder that only this user may enter; False if it was there.

    Raises OSError where it cannot be made, or is open to other users.
    """
    try:
        folder.mkdir(mode=stat.S_IRWXU)
    except FileExistsError:
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_own or stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(0, f"{folder} is open to other users") from None
        return False
    return True


def local_base() -> Path:
    """$SLURM_TMPDIR, if it is a folder, else the temporary folder."""
    job_disk = os.environ.get("SLURM_TMPDIR")
    return Path(job_disk if job_disk and Path(job_disk).is_dir() else tempfile.gettempdir())


def local_folder_of(run: Path) -> Path:
    """The folder on this machine that stands for a run folder; raises OSError."""
    name = hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:12]
    folder = local_base() / f"rudder-{os.getuid()}-{name}"
    own_folder(folder)
    return folder


def control_folder_of(run: Path) -> Path:
    """`run/control`, which becomes a link to a local folder where it cannot hold sockets.

    It is the local folder itself where there can be no link. Each machine has the link lead to its
    own folder. Raises OSError if that cannot be had either.
    """
    folder = run / "control"
    if folder.is_symlink() and _leads_to(folder, local := local_folder_of(run) / "control"):
        local.mkdir(exist_ok=True)
    reason = _why_no_sockets(folder)
    if reason is None:
        return folder
    local = local_folder_of(run) / "control"
    local.mkdir(exist_ok=True)
    with suppress(OSError):
        folder.rmdir()
    with suppress(OSError):
        folder.symlink_to(local)
    if not _leads_to(folder, local):
        with suppress(OSError):
            folder.unlink()
        folder = local
    complain(
        f"rudder: {run} cannot hold sockets ({reason}); they are in {local}. On this machine"
        f" `rudder set` and `rudder steer` reach its trainers with --run {folder.parent}"
    )
    return folder


def _leads_to(link: Path, target: Path) -> bool:
    """Whether it is a link there that can be read; sshfs reads none to a place outside itself."""
    try:
        return link.is_symlink() and link.readlink() == target
    except OSError:
        return False


def _why_no_sockets(folder: Path) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unix_socket.try_in(folder)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
