"""A file of SQLite with one writing connection, and readers that cannot write.

SQLite up to 3.51.2 can damage a write-ahead log when two connections write or checkpoint at the
same moment, so a writer holds a lock of its own beside the file for as long as it has it open.

What is committed is safe from a kill of the process: it is in the operating system's hands. Only a
checkpoint waits for the disk, and is made when nobody waits (`Store.rest`). A machine that loses
power loses what came after the last one at most; what is left is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from rudder.memory.database import Database, Migrations
from rudder.memory.files import DamagedError, check, is_damage, move_away, refuse_network
from rudder.memory.migrations import is_foreign, is_newer, wrong_objects
from rudder.training.errors import DataError, MachineError

_BUSY_MS = 5000
_CHECKPOINT_TRANSACTIONS = 256
"""Since the last checkpoint, before a rest makes one: about 4 MB."""
_KINDS = {
    "run": ("the record of a run", "a steered run"),
    "experience": ("a memory", "`rudder memory merge`, or a steered run with --memory,"),
}
"""What a file of these migrations is, and who makes one."""
_MAX_LOG_PAGES = 16_384
"""Of 4 KiB, after which a checkpoint does not wait for a rest."""

Key = tuple[str, int | str]
"""A table and the primary key of one of its rows."""
RecordWrite = Callable[[Database], Iterable[Key]]
"""Writes to tables inside the caller's transaction, and names the rows that it wrote."""
Problem = Callable[[Database], str | None]
"""Why a file cannot be used, or None."""


Value = str | int | float | bytes | None
Model = TypeVar("Model", bound=BaseModel)
Found = TypeVar("Found")
HIDDEN = "[secret]"
_SECRET_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SECRET_SHAPES = re.compile(r"\bsk-[A-Za-z0-9_-]{16,}|(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*")
_MIN_SECRET_LENGTH = 8


class LaterVersionError(DataError):
    """A file has tables that this version does not know."""


class Store:
    """The writing connection of one file; usable from any thread, one at a time, never across a
    fork. `damaged`: where an unreadable predecessor was moved away, or None."""

    def __init__(self, path: Path, *, db: Database, lock: IO[bytes], damaged: Path | None) -> None:
        self.path = path
        self.db = db
        self.damaged = damaged
        self._lock = lock
        self._pid = os.getpid()
        self._num_transactions = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        migrations: Migrations,
        wait_s: float = 0,
        replaces_damaged: bool = True,
        problem: Problem = lambda db: None,
    ) -> Self:
        """Open or create; a damaged file is moved to another name and a new one begun.

        wait_s: how long to wait for another writer to end; replaces_damaged: False to leave a
        damaged file, or one that is none of ours, where it is, and raise DataError; problem: what
        else is wrong with a file, None where nothing is.
        Raises MachineError (network file system, another writer), LaterVersionError, OSError and
        sqlite3.Error (read-only, full).
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network(path)
        lock = _lock(path, wait_s=wait_s)
        try:
            if not replaces_damaged and path.is_file() and path.stat().st_size:
                open_reader(path, migrations=migrations).close()
            damaged = None
            try:
                db = _connect(path, migrations, problem)
            except DamagedError as error:
                if not replaces_damaged:
                    raise unreadable(path, error) from None
                damaged = move_away(path, reason=str(error))
                db = _connect(path, migrations, problem)
            return cls(path, db=db, lock=lock, damaged=damaged)
        except BaseException:
            lock.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """All or nothing, and safe from a kill when it is left; raises sqlite3.Error."""
        if os.getpid() != self._pid:
            raise MachineError(
                f"{self.path} was opened before a fork", remedy="open it again in the new process"
            )
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
            self.db.execute("COMMIT")
            self._num_transactions += 1
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.rollback()
            raise

    def wait_for_locks(self, *, is_patient: bool) -> None:
        """Whether a transaction waits for a lock of another connection, or fails at once."""
        self.db.execute(f"PRAGMA busy_timeout = {_BUSY_MS if is_patient else 0}")

    def rest(self) -> None:
        """Checkpoint the write-ahead log into the file and onto the disk, if it has grown long; for
        moments at which no decision waits. An error shows in the next transaction."""
        if self._num_transactions < _CHECKPOINT_TRANSACTIONS:
            return
        self._num_transactions = 0
        with contextlib.suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close, leaving one plain file where no reader is in the way."""
        if os.getpid() == self._pid:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("PRAGMA busy_timeout = 0")
                self.db.execute("PRAGMA journal_mode = DELETE")
            with contextlib.suppress(sqlite3.Error):
                self.db.close()
        self._lock.close()


class Reader:
    """A connection that cannot write; a context manager, which closes it.

    Methods raise DataError for what is damaged, or where there is no such file.
    """

    def __init__(self, path: Path, *, migrations: Migrations) -> None:
        self.path = path
        self.db = open_reader(path, migrations=migrations)

    def rows(self, sql: str, *values: Value) -> list[dict[str, Any]]:
        """Rows of a query, by column."""
        return self.read(lambda: list(rows(self.db, sql, *values)))

    def read(self, action: Callable[[], Found]) -> Found:
        """What an action reads from the file."""
        try:
            return action()
        except (sqlite3.Error, ValueError) as error:
            raise unreadable(self.path, str(error).splitlines()[0]) from None

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_reader(path: Path, *, migrations: Migrations) -> Database:
    """A connection that cannot write; of a file with older tables, a migrated copy in memory.

    Raises DataError where there is no such file, or it cannot be used.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist", remedy="name a file that a steered run wrote")
    try:
        return _reader(path, migrations)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception | str) -> DataError:
    """What to say of a file that SQLite cannot read."""
    return DataError(
        f"{path} cannot be read: {error}",
        remedy="the file is damaged; restore it, or look at what is left with `sqlite3 .recover`",
    )


def _reader(path: Path, migrations: Migrations) -> Database:
    plain = not path.with_name(path.name + "-wal").exists()
    mode = "immutable=1" if plain and not os.access(path.parent, os.W_OK) else "mode=ro"
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    db = _database(sqlite3.connect(uri, uri=True, check_same_thread=False))
    db.execute("PRAGMA query_only = ON")
    if is_newer(db, migrations):
        raise _written_by_later(path)
    if not migrations.pending(db):
        return db
    if not migrations.applied(db):
        raise _none_of_ours(path, migrations)
    copy = _database(sqlite3.connect(":memory:", check_same_thread=False))
    db.conn.backup(copy.conn)
    db.close()
    migrations.apply(copy)
    return copy


def _connect(path: Path, migrations: Migrations, problem: Problem) -> Database:
    """The writing connection, tables brought up to date; raises DamagedError."""
    check(path)
    db = _database(sqlite3.connect(path, check_same_thread=False))
    try:
        _prepare(db, path, migrations)
        if (reason := problem(db)) is not None:
            raise DamagedError(reason)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error | UnicodeDecodeError) and is_damage(error, path):
            raise DamagedError(str(error)) from None
        raise
    return db


def _prepare(db: Database, path: Path, migrations: Migrations) -> None:
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise MachineError(
            f"{path}: SQLite cannot keep a write-ahead log here", remedy="use a local disk"
        )
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_MAX_LOG_PAGES}")
    db.execute("PRAGMA mmap_size = 0")
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise DamagedError(found)
    if is_newer(db, migrations):
        raise _written_by_later(path)
    if is_foreign(db, migrations):
        raise DamagedError("it has tables, and none of them ours")
    if migrations.pending(db):
        migrations.apply(db)
    if wrong := wrong_objects(db, migrations):
        raise DamagedError(f"not as it was made: {', '.join(wrong)}")


def _database(connection: sqlite3.Connection) -> Database:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return Database(connection, execute_plugins=False)


def _lock(path: Path, *, wait_s: float) -> IO[bytes]:
    """Held until it is closed; raises MachineError where another process keeps it."""
    file = path.with_name(f".{path.name}.lock").open("ab")
    end = time.monotonic() + wait_s
    while not _has_locked(file):
        if time.monotonic() >= end:
            file.close()
            raise MachineError(
                f"{path} is being written by another process",
                remedy="wait until it ends, or end it",
            )
        time.sleep(0.05)
    return file


def _has_locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _none_of_ours(path: Path, migrations: Migrations) -> DataError:
    kind, made_by = _KINDS[migrations.name]
    return DataError(f"{path} is not {kind}", remedy=f"name a file that {made_by} wrote")


def _written_by_later(path: Path) -> DataError:
    return LaterVersionError(
        f"{path} was written by a later version of Rudder", remedy="use that version, or a new file"
    )


# -- rows --------------------------------------------------------------------------------------


def insert(
    db: Database, table: str, values: Mapping[str, object], *, on_conflict: str = ""
) -> int | None:
    """Write a row inside the caller's transaction; returns its number, None where nothing was
    written.

    on_conflict: SQL for a row that is there already, such as `DO NOTHING`.
    """
    sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    if on_conflict:
        sql += f" ON CONFLICT {on_conflict}"
    cursor = db.conn.execute(sql, tuple(values.values()))
    return cursor.lastrowid if cursor.rowcount else None


def rows(db: Database, sql: str, *values: Value) -> Iterator[dict[str, Any]]:
    """Rows of a query, by column."""
    found = db.conn.execute(sql, values)
    names = [column[0] for column in found.description]
    return (dict(zip(names, row, strict=True)) for row in found)


def parse(kind: type[Model], content: str, *, what: str) -> Model:
    """Stored JSON as an object; raises DataError, naming `what`, where it is damaged."""
    try:
        return kind.model_validate_json(content)
    except (ValidationError, ValueError) as error:
        raise damaged(what, error) from None


def parse_row(kind: type[Model], row: Mapping[str, object], *, what: str) -> Model:
    """A row as an object; raises DataError, naming `what`, where it is damaged."""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise damaged(what, error) from None


def damaged(what: str, error: Exception | str) -> DataError:
    """What to say of a damaged part of a file."""
    return DataError(
        f"{what} is damaged: {str(error).splitlines()[0]}",
        remedy="it cannot be used; the others can",
    )


def now() -> str:
    """The time as it is stored: 2026-02-03T04:05:06.000007Z."""
    return stored(datetime.now(UTC))


def stored(moment: datetime) -> str:
    """A time as it is stored: UTC, all of one length, so they sort as text; one without a zone is
    taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Redaction:
    """Replaces the values of the environment's secrets, and what is shaped like an API key."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        values = {
            value
            for name, value in environment.items()
            if _SECRET_NAMES.search(name) and len(value) >= _MIN_SECRET_LENGTH
        }
        patterns = [re.escape(value) for value in sorted(values, key=len, reverse=True)]
        self._known = re.compile("|".join(patterns)) if patterns else None

    def clean(self, text: str) -> str:
        """The text without secrets, and without what UTF-8 cannot hold."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _SECRET_SHAPES.sub(HIDDEN, text).encode("utf-8", "replace").decode("utf-8")

    def clean_all(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The same of every text."""
        return {
            name: self.clean(value) if isinstance(value, str) else value
            for name, value in values.items()
        }
