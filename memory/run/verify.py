"""Whether a run's file is as it was written, and if not, the first broken row of its log."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from rudder.memory.database import Database
from rudder.memory.migrations import RUN_FILE, wrong_objects
from rudder.memory.run.audit import (
    CHAINED,
    COLUMNS,
    HEAD_OF_RANK,
    Head,
    read_head,
    row_hash,
    table_digests,
)
from rudder.memory.store import Value, rows
from rudder.training.control.messages import LogHead

_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
_READ = f"SELECT {', '.join(COLUMNS)} FROM audit WHERE number > ? ORDER BY number"


@dataclass(frozen=True)
class Verification:
    """What verify found: rows that hold, from the first on; the first broken one, and why.

    broken_row: None where all is well, or where what is broken is no row of the log; table_rows:
    rows of other tables that hold; chained_from: the row of the log from which on other tables are
    under the chain, None: an earlier version wrote the file, and their rows cannot be checked;
    run_key, rank, num_ranks: as the first row says, None where that is not known; heads: where the
    logs of other ranks ended, as this one says; unannounced: effects that no intent came before,
    which a log may have and still be as it was written.
    """

    rows: int
    table_rows: int = 0
    chained_from: int | None = None
    run_key: str | None = None
    rank: int | None = None
    num_ranks: int | None = None
    head: Head = field(default_factory=Head)
    heads: tuple[LogHead, ...] = ()
    broken_row: int | None = None
    reason: str | None = None
    unannounced: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the file is as it was written."""
        return self.reason is None


class _BrokenError(Exception):
    def __init__(self, reason: str, *, row: int | None = None) -> None:
        super().__init__(reason)
        self.row = row


def verify(
    db: Database,
    *,
    known: Sequence[Head] = (),
    last: int | None = None,
    on_row: Callable[[int], object] = lambda count: None,
) -> Verification:
    """Walk the chain, and compare the rows of all other tables with their digests in it.

    known: ends that the log is known to have had; last: look at that many rows of the log only,
    which is what a controller does that goes on with a file; on_row: called with 1 after each row
    of any table.
    """
    walk = _Walk(on_row)
    try:
        _check_file(db, whole=last is None)
        walk.run(db, first=0 if last is None else max(0, read_head(db).number - last))
        if (head := unlike(db, known)) is not None:
            raise _BrokenError(why_unlike(head, walk.head), row=head.number)
        if last is None:
            walk.check_tables(db)
    except _BrokenError as error:
        return walk.found(broken_row=error.row, reason=str(error))
    return walk.found()


class _Walk:
    """A pass over the rows; `head` is the last one that holds."""

    def __init__(self, on_row: Callable[[int], object]) -> None:
        self._on_row = on_row
        self.head = Head()
        self.num_rows = 0
        self.unannounced: list[int] = []
        self._intents: set[str] = set()
        self._digests: dict[str, str | None] = {}
        self._num_table_rows = 0
        self._chained_from: int | None = None
        self._run_key: str | None = None
        self._rank: int | None = None
        self._num_ranks: int | None = None
        self._heads: list[LogHead] = []

    def run(self, db: Database, *, first: int) -> None:
        if first:
            self.head = _row_before(db, first)
        for row in self._rows(db, first):
            self._check(row)
            self._on_row(1)
        with _broken_if_unreadable("the log's end cannot be read"):
            end = read_head(db)
        if end.number != self.head.number:
            raise _BrokenError(
                f"the log ends at row {self.head.number}, but {end.number} were written",
                row=min(end.number, self.head.number) + 1,
            )
        if end.hash != self.head.hash:
            raise _BrokenError("the last row is not the one that was written", row=end.number)

    def check_tables(self, db: Database) -> None:
        """Of a file that was never written by a version with digests nothing is known."""
        if self._chained_from is None:
            return
        missing = {name for name, digest in self._digests.items() if digest is not None}
        for table in CHAINED:
            with _broken_if_unreadable(f"{table} cannot be read"):
                found = list(table_digests(db, table))
            for name, digest in found:
                if digest != self._digests.get(name):
                    is_known = self._digests.get(name) is not None
                    why = "is not as it was written" if is_known else "was never written"
                    raise _BrokenError(f"{name} {why}")
                missing.remove(name)
                self._num_table_rows += 1
                self._on_row(1)
        if missing:
            raise _BrokenError(f"{min(missing)} is missing")

    def found(self, *, broken_row: int | None = None, reason: str | None = None) -> Verification:
        """What the walk has come to."""
        return Verification(
            run_key=self._run_key,
            rank=self._rank,
            num_ranks=self._num_ranks,
            rows=self.num_rows,
            table_rows=self._num_table_rows,
            chained_from=self._chained_from,
            head=self.head,
            heads=tuple(self._heads),
            broken_row=broken_row,
            reason=reason,
            unannounced=() if reason else tuple(self.unannounced),
        )

    def _rows(self, db: Database, first: int) -> Iterator[dict[str, Value]]:
        try:
            yield from rows(db, _READ, first)
        except _UNREADABLE as error:
            raise _BrokenError(f"cannot be read: {error}", row=self.head.number + 1) from None

    def _check(self, row: dict[str, Value]) -> None:
        expected = self.head.number + 1
        if row["number"] != expected:
            raise _BrokenError(f"missing; row {row['number']!r} comes next", row=expected)
        if row["previous_hash"] != self.head.hash:
            raise _BrokenError("does not follow from the row before", row=expected)
        if _hash_or_none(row) != row["hash"]:
            raise _BrokenError("its content does not have its hash", row=expected)
        self.head = Head(expected, str(row["hash"]))
        self.num_rows += 1
        try:
            self._take(row)
        except (ValueError, TypeError):
            raise _BrokenError("its content is not what such a row has", row=expected) from None

    def _take(self, row: dict[str, Value]) -> None:
        """Note what a row says of the log, of other tables and of other ranks."""
        if self.head.number == 1:
            self._run_key, self._rank = str(row["run_key"]), int(str(row["rank"]))
            if row["tool"] == "begin_session":
                self._num_ranks = _Begun.model_validate_json(str(row["arguments"])).num_ranks
        if row["tool"] == HEAD_OF_RANK:
            self._heads.append(LogHead.model_validate_json(str(row["result"])))
        if row["digests"] is not None:
            self._digests.update(json.loads(str(row["digests"])))
            self._chained_from = self._chained_from or self.head.number
        if row["kind"] == "intent":
            self._intents.add(str(row["call_id"]))
        elif row["kind"] == "effect" and row["call_id"] not in self._intents:
            self.unannounced.append(self.head.number)


class _Begun(BaseModel):
    """What the first row of a log says of its run."""

    num_ranks: int | None = None


def _check_file(db: Database, *, whole: bool) -> None:
    """Pages, indexes, and that tables and triggers are those that were made."""
    with _broken_if_unreadable("the file is damaged"):
        if wrong := wrong_objects(db, RUN_FILE):
            raise _BrokenError(f"not as it was made: {', '.join(wrong)}")
        if whole:
            found = db.conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise _BrokenError(f"the file is damaged: {found}")


@contextlib.contextmanager
def _broken_if_unreadable(what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise _BrokenError(f"{what}: {error}") from None


def unlike(db: Database, known: Sequence[Head]) -> Head | None:
    """The first of the known ends that a log, whose chain holds, never had."""
    sql = "SELECT 1 FROM audit WHERE number = ? AND hash = ?"
    rows_of = ((head, db.conn.execute(sql, [head.number, head.hash])) for head in known)
    return next((head for head, found in rows_of if head.number and not found.fetchone()), None)


def why_unlike(known: Head, end: Head) -> str:
    """What to say of a log, which has this end, if it never had an end that is known."""
    if known.number <= end.number:
        return f"it is not the row that {known.keeper} knows"
    return (
        f"{known.keeper} knows it, but the log ends at row {end.number} (while a run goes on, a"
        " copy of another host's log is older than the log)"
    )


def _row_before(db: Database, number: int) -> Head:
    found = db.conn.execute("SELECT number, hash FROM audit WHERE number = ?", [number]).fetchone()
    if found is None:
        raise _BrokenError("missing", row=number)
    return Head(*found)


def _hash_or_none(row: dict[str, Value]) -> str | None:
    """None for values that no JSON can hold, which were never written."""
    try:
        return row_hash(row)
    except (TypeError, ValueError):
        return None
