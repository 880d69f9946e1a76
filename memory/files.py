"""Finds network file systems and damaged files, and moves damaged files away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from rudder.training.errors import MachineError, complain
from rudder.training.local_disk import file_system_of, is_network

_BESIDE = ("-wal", "-shm", "-journal")
_NO_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}

_MAY_CHANGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_DISK_MAY_CHANGE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def refuse_network(path: Path, *, mounts: Mapping[Path, str] | None = None) -> None:
    """Raise MachineError where `path` lies on a network file system."""
    kind = file_system_of(path, mounts=mounts)
    if is_network(kind):
        raise MachineError(
            f"{path} lies on a network file system ({kind}), where SQLite's write-ahead log and its"
            " locks do not work and files get damaged",
            remedy="put the file on a local disk; `rudder memory merge` brings the files of several"
            " hosts together",
        )


def why_no_log(folder: Path, *, mounts: Mapping[Path, str] | None = None) -> str | None:
    """Why SQLite's write-ahead log cannot be kept in a folder, None where it can.

    That a disk is full or read-only is no such reason: it may change. mounts: as above.
    """
    path = folder / f".try-{secrets.token_hex(4)}"
    try:
        refuse_network(folder, mounts=mounts)
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.closing(sqlite3.connect(path)) as db:
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            db.execute("CREATE TABLE tried (number)")
    except MachineError as error:
        return error.message
    except OSError as error:
        return None if error.errno in _MAY_CHANGE else str(error)
    except sqlite3.Error as error:
        return None if error.sqlite_errorcode & 0xFF in _DISK_MAY_CHANGE else str(error)
    finally:
        for end in ("", *_BESIDE):
            with contextlib.suppress(OSError):
                path.with_name(path.name + end).unlink()
    return None if mode == "wal" else "SQLite cannot keep a write-ahead log here"


class DamagedError(Exception):
    """The content of a file is not what was written."""


def check(path: Path) -> None:
    """Raise DamagedError for what SQLite would take for an empty file: a log without its base."""
    wal = path.with_name(path.name + "-wal")
    has_log = wal.exists() and wal.stat().st_size > 0
    if has_log and (not path.exists() or path.stat().st_size == 0):
        raise DamagedError("its write-ahead log is there, but the file is empty")


def is_damage(error: Exception, path: Path) -> bool:
    """Whether the content is at fault, and not the disk, the rights or another process."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code & 0xFF not in _NO_DAMAGE


def move_away(path: Path, *, reason: str) -> Path:
    """Move a file and its logs to a new name beside it, and say so; returns the new path."""
    names = (f"{path.stem}.damaged-{k}{path.suffix}" for k in itertools.count(1))
    target = next(each for name in names if not (each := path.with_name(name)).exists())
    for end in _BESIDE:
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(target.with_name(target.name + end))
    if path.exists():
        path.rename(target)
    complain(f"rudder: {path} is damaged ({reason}); kept as {target.name}, a new file is begun")
    return target
