"""Sends what a run writes on a host's own disk to the launcher, and writes it there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from rudder.training.database_copy import copy_database
from rudder.training.errors import MachineError
from rudder.training.hosts.messages import CHUNK_BYTES, Frame, Mirror, Removed

LOGS = "logs"
_OF_THE_HOST = frozenset({"control", "job.json", "ip_config.txt", "rendezvous"})
"""Files and folders of the run that mean nothing on another machine, but for the files that say
which controllers run."""
_SQLITE_PARTS = ("-wal", "-shm", "-journal")


class HostFolder:
    """The run's folder on a host: yields what has been written since the last call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log_sizes: dict[Path, int] = {}
        self._seen: dict[Path, tuple[int, ...]] = {}

    def logs(self) -> Iterator[Frame]:
        """What was added to the logs."""
        for path in sorted((self._folder / LOGS).glob("*")):
            if path not in self._log_sizes:  # an empty log is there, too
                yield self._frame(path, 0, b"", is_log=True, is_last=False)
            offset = self._log_sizes.get(path, 0)
            with path.open("rb") as stream:
                stream.seek(offset)
                while data := stream.read(CHUNK_BYTES):
                    yield self._frame(path, offset, data, is_log=True, is_last=False)
                    offset += len(data)
            self._log_sizes[path] = offset

    def files(self) -> Iterator[Frame]:
        """All other files that have changed. A database is copied as it stands at one moment."""
        for path in [path for path in self._seen if not path.exists()]:
            del self._seen[path]
            yield Frame(Removed(path=path.relative_to(self._folder).as_posix()))
        for path in sorted(self._folder.rglob("*"), key=_place):
            if not self._is_wanted(path) or (state := _state(path)) == self._seen.get(path):
                continue
            with suppress(FileNotFoundError, sqlite3.Error):  # it has just gone, or is not ready
                yield from self._database(path) if path.suffix == ".db" else self._whole(path, path)
                self._seen[path] = state

    def _is_wanted(self, path: Path) -> bool:
        parts = path.relative_to(self._folder).parts
        is_hidden = any(part.startswith(".") for part in parts)
        is_of_host = parts[0] in {*_OF_THE_HOST, LOGS} and path.suffix != ".pid"
        return (
            path.is_file()
            and not is_of_host
            and not is_hidden
            and not path.name.endswith(_SQLITE_PARTS)
        )

    def _database(self, path: Path) -> Iterator[Frame]:
        copy = self._folder / f".{path.name}.copy"
        copy_database(path, copy)
        yield from self._whole(copy, path)
        copy.unlink()

    def _whole(self, source: Path, path: Path) -> Iterator[Frame]:
        size, offset = source.stat().st_size, 0
        with source.open("rb") as stream:
            while True:
                data = stream.read(CHUNK_BYTES)
                is_last = offset + len(data) >= size or not data
                yield self._frame(path, offset, data, is_log=False, is_last=is_last)
                offset += len(data)
                if is_last:
                    return

    def _frame(self, path: Path, offset: int, data: bytes, *, is_log: bool, is_last: bool) -> Frame:
        name = path.relative_to(self._folder).as_posix()
        return Frame(Mirror(path=name, offset=offset, is_log=is_log, is_last=is_last), data)


def _place(path: Path) -> tuple[Path, bool, str]:
    """A checkpoint's manifest goes after its other files."""
    return path.parent, path.name == "manifest.json", path.name


def _state(path: Path) -> tuple[int, ...]:
    """What changes when the file does; a database is changed through its log, too."""
    found = [each.stat() for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]
    return tuple(value for each in found for value in (each.st_size, each.st_mtime_ns))


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Write a piece of a file; the first one, at 0, begins it anew."""
    with path.open("r+b" if offset else "wb") as stream:
        stream.seek(offset)
        stream.write(data)


class RunFolder:
    """The run's folder on the launcher's machine: takes in what hosts have written.

    control: stands for the folder of this name in it.
    """

    def __init__(self, folder: Path, *, control: Path) -> None:
        self._folder, self._control = folder, control

    def take(self, piece: Mirror, data: bytes) -> None:
        """Write a piece; logs go on behind what is there. Raises MachineError for a bad path."""
        path = self.inside(piece.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if piece.is_log:
            with path.open("ab") as stream:
                stream.write(data)
            return
        partial = path.with_name(f".{path.name}.partial")
        write_at(partial, piece.offset, data)
        if piece.is_last:
            partial.replace(path)

    def remove(self, name: str) -> None:
        """Remove a file that the host has removed, and its folder if it is empty then."""
        path = self.inside(name)
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def inside(self, name: str) -> Path:
        """A path below the folder; raises MachineError for any other."""
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise MachineError(
                f"a host sent the file {name!r}, which is not in the run's folder",
                remedy="install the same version of Rudder on all hosts",
            )
        if parts.parts[:1] == ("control",):
            return self._control.joinpath(*parts.parts[1:])
        return self._folder / parts
