"""Whether an audit log is as it was written, and if not, its first broken row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlite_utils import Database

from rudder.memory.migrations import RUN_FILE, wrong_objects
from rudder.memory.run.audit import COLUMNS, Head, Value, read_head, row_hash

_NAMES = ", ".join(COLUMNS)
_READ = f"SELECT {_NAMES} FROM audit WHERE number > ? ORDER BY number"


@dataclass(frozen=True)
class Verification:
    """What verify found: rows that hold, from the first on; the first broken one, and why.

    broken_row: None where all is well, or where what is broken is no row; unannounced: effects
    that no intent came before, which a log may have and still be as it was written.
    """

    rows: int
    head: Head = field(default_factory=Head)
    broken_row: int | None = None
    reason: str | None = None
    unannounced: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the log is as it was written."""
        return self.reason is None


class _BrokenError(Exception):
    def __init__(self, reason: str, *, row: int | None = None) -> None:
        super().__init__(reason)
        self.row = row


def verify(db: Database, *, known: Sequence[Head] = (), last: int | None = None) -> Verification:
    """Walk the chain; `known`: ends that the log is known to have had, kept elsewhere.

    last: look at that many rows only, which is what a controller does that goes on with a file.
    """
    walk = _Walk()
    try:
        _check_file(db, whole=last is None)
        walk.run(db, first=0 if last is None else max(0, read_head(db).number - last))
        walk.check_known(known)
    except _BrokenError as error:
        return Verification(
            rows=walk.num_rows, head=walk.head, broken_row=error.row, reason=str(error)
        )
    return Verification(walk.num_rows, walk.head, unannounced=tuple(walk.unannounced))


class _Walk:
    """A pass over the rows; `head` is the last one that holds."""

    def __init__(self) -> None:
        self.head = Head()
        self.num_rows = 0
        self.unannounced: list[int] = []
        self._intents: set[str] = set()
        self._hashes: dict[int, str] = {}

    def run(self, db: Database, *, first: int) -> None:
        if first:
            self.head = _row_before(db, first)
        for row in self._rows(db, first):
            self._check(row)
        end = _end(db)
        if end.number != self.head.number:
            raise _BrokenError(
                f"the log ends at row {self.head.number}, but {end.number} were written",
                row=min(end.number, self.head.number) + 1,
            )
        if end.hash != self.head.hash:
            raise _BrokenError("the last row is not the one that was written", row=end.number)

    def check_known(self, known: Sequence[Head]) -> None:
        for end in known:
            if end.number and self._hashes.get(end.number) != end.hash:
                raise _BrokenError("the row is not the one that was kept elsewhere", row=end.number)

    def _rows(self, db: Database, first: int) -> Iterator[dict[str, Value]]:
        try:
            for values in db.conn.execute(_READ, [first]):
                yield dict(zip(COLUMNS, values, strict=True))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _BrokenError(f"cannot be read: {error}", row=self.head.number + 1) from None

    def _check(self, row: dict[str, Value]) -> None:
        expected = self.head.number + 1
        if row["number"] != expected:
            raise _BrokenError(f"missing; row {row['number']} comes next", row=expected)
        if row["previous_hash"] != self.head.hash:
            raise _BrokenError("does not follow from the row before", row=expected)
        if _hash_or_none(row) != row["hash"]:
            raise _BrokenError("its content does not have its hash", row=expected)
        self.head = Head(expected, str(row["hash"]))
        self.num_rows += 1
        self._hashes[expected] = self.head.hash
        self._note_effects(row)

    def _note_effects(self, row: dict[str, Value]) -> None:
        if row["kind"] == "intent":
            self._intents.add(str(row["call_id"]))
        elif row["kind"] == "effect" and row["call_id"] not in self._intents:
            self.unannounced.append(self.head.number)


def _check_file(db: Database, *, whole: bool) -> None:
    """Pages, indexes, and that tables and triggers are those that were made."""
    try:
        if wrong := wrong_objects(db, RUN_FILE):
            raise _BrokenError(f"not as it was made: {', '.join(wrong)}")
        if whole:
            found = db.conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise _BrokenError(f"the file is damaged: {found}")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _BrokenError(f"the file is damaged: {error}") from None


def _row_before(db: Database, number: int) -> Head:
    found = db.conn.execute("SELECT number, hash FROM audit WHERE number = ?", [number]).fetchone()
    if found is None:
        raise _BrokenError("missing", row=number)
    return Head(*found)


def _end(db: Database) -> Head:
    try:
        return read_head(db)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _BrokenError(f"the log's end cannot be read: {error}") from None


def _hash_or_none(row: dict[str, Value]) -> str | None:
    """None for values that no JSON can hold, which were never written."""
    try:
        return row_hash(row)
    except (TypeError, ValueError):
        return None
