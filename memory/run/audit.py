"""The audit log: a chain of rows that are appended and never changed.

Each row carries the hash of the row before it, and the digests of the rows of other tables that
were written in the same transaction. So the whole file is under one chain, whose end is its head.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from rudder.memory.database import Database
from rudder.memory.journal import AuditEntry
from rudder.memory.migrations import FIRST_HASH
from rudder.memory.store import Key, RecordWrite, Redaction, Store, Value, insert, now, rows

Cell = str | int | float | None

CHAINED = {
    "sessions": "number",
    "windows": "number",
    "slices": "number",
    "pruned_uses": "first_window",
    "episodes": "episode_id",
    "recalls": "number",
    "model_calls": "number",
    "decision_inputs": "episode_id",
}
"""Tables whose rows are under the chain, and their primary keys."""
HEAD_OF_RANK = "head_of_rank"
"""The tool of rows of kind `record` whose result is a LogHead: where another rank's log ended."""
COLUMNS = (
    *("number", "time", "run_key", "rank"),
    *AuditEntry.model_fields,
    *("digests", "previous_hash", "hash"),
)


class AuditRow(AuditEntry):
    """An entry where it stands in the log; docs/schema.md says what the columns hold.

    Rows are shown as they are, so those of a file are not checked.
    """

    number: int
    time: str
    run_key: str
    rank: int
    digests: str | None = None
    previous_hash: str
    hash: str

    def columns(self) -> dict[str, Cell]:
        """Values by column, in the table's order."""
        return {name: getattr(self, name) for name in COLUMNS}

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.columns(), separators=(",", ":"))


@dataclass(frozen=True)
class Head:
    """Where a log ends; keeper: who says so, for people."""

    number: int = 0
    hash: str = FIRST_HASH
    keeper: str = field(default="its own file", compare=False)


@dataclass(frozen=True)
class AuditFilter:
    """Which rows to show; None: any, but for rows of kind `record`, which only a filter of that
    kind shows. times: as stored; steps and times inclusive; episode: the beginning of an id."""

    run_key: str | None = None
    rank: int | None = None
    kind: str | None = None
    agent: str | None = None
    tool: str | None = None
    outcome: str | None = None
    episode_id: str | None = None
    episode: str | None = None
    call_id: str | None = None
    since: str | None = None
    until: str | None = None
    first_step: int | None = None
    last_step: int | None = None

    def where(self) -> tuple[str, list[str | int]]:
        """As SQL with its parameters."""
        compared = {
            "episode": "instr(episode_id, ?) = 1",
            "since": "time >= ?",
            "until": "time <= ?",
            "first_step": "step >= ?",
            "last_step": "step <= ?",
        }
        given = {name: value for name, value in asdict(self).items() if value is not None}
        terms = [compared.get(name, f"{name} = ?") for name in given]
        if self.kind is None:
            terms.append("kind <> 'record'")
        return " AND ".join(terms), list(given.values())


class AuditLog:
    """The writing end."""

    def __init__(self, store: Store, *, run_key: str, rank: int, redaction: Redaction) -> None:
        self._store = store
        self._run_key = run_key
        self._rank = rank
        self._redaction = redaction

    def append(self, *entries: AuditEntry, write: RecordWrite | None = None) -> int:
        """Append rows, in one transaction with what `write` writes; the last carries its digests.

        Safe from a kill when this returns. Returns the number of the last row.
        """
        with self._store.transaction() as db:
            keys = list(write(db)) if write is not None else []
            written = {f"{table}/{key}": row_digest(db, table, key) for table, key in keys}
            head = read_head(db)
            for entry in entries:
                is_last = entry is entries[-1]
                head = self._add(db, entry, head=head, digests=written if is_last else {})
        return head.number

    def _add(
        self, db: Database, entry: AuditEntry, *, head: Head, digests: dict[str, str | None]
    ) -> Head:
        row: dict[str, Value] = {
            "number": head.number + 1,
            **self._values(entry),
            "previous_hash": head.hash,
        }
        row["digests"] = json.dumps(digests, separators=(",", ":")) if digests else None
        row["hash"] = row_hash(row)
        insert(db, "audit", row)
        db.conn.execute("UPDATE audit_head SET number = ?, hash = ?", (row["number"], row["hash"]))
        return Head(head.number + 1, str(row["hash"]))

    def _values(self, entry: AuditEntry) -> dict[str, Value]:
        values: dict[str, Value] = {
            "time": now(),
            "run_key": self._run_key,
            "rank": self._rank,
            **entry.model_dump(),
        }
        latency = values["latency_ms"]
        if isinstance(latency, float):  # SQLite has no negative zero
            values["latency_ms"] = latency + 0.0 if math.isfinite(latency) else None
        return self._redaction.clean_all(values)


def row_hash(row: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON of all that is not null, the hash itself left out; bytes count
    as hexadecimal text.

    Nulls are left out so that a later version's new column leaves old hashes as they are.
    """
    content = {name: value for name, value in row.items() if value is not None and name != "hash"}
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=bytes.hex
    )
    return hashlib.sha256(text.encode()).hexdigest()


def row_digest(db: Database, table: str, key: int | str) -> str | None:
    """The digest of a row of a chained table; None: it is not there, for it was pruned."""
    found = rows(db, f"SELECT * FROM {table} WHERE {CHAINED[table]} = ?", key)
    return next((row_hash(row) for row in found), None)


def table_digests(db: Database, table: str) -> Iterator[tuple[str, str]]:
    """The name, such as `windows/12`, and the digest of each row of a chained table."""
    for row in rows(db, f"SELECT * FROM {table}"):
        yield f"{table}/{row[CHAINED[table]]}", row_hash(row)


def unchained_rows(db: Database) -> Iterable[Key]:
    """All rows of a file that an earlier version wrote, which put none of them under the chain."""
    if db.conn.execute("SELECT 1 FROM audit WHERE digests IS NOT NULL LIMIT 1").fetchone():
        return []
    return [
        (table, row[0])
        for table, key in CHAINED.items()
        for row in db.conn.execute(f"SELECT {key} FROM {table}")
    ]


def is_logged(db: Database, call_id: str) -> bool:
    """Whether there is a row of this call, or of the command of this id that was applied."""
    found = db.conn.execute(
        "SELECT 1 FROM audit WHERE call_id = ?1 OR (outcome = 'applied' AND json_valid(result)"
        " AND json_extract(result, '$.command_id') = ?1) LIMIT 1",
        [call_id],
    )
    return found.fetchone() is not None


def read_head(db: Database) -> Head:
    """Where the log ends; raises sqlite3.DatabaseError where that is lost."""
    found = db.conn.execute("SELECT number, hash FROM audit_head").fetchall()
    if len(found) != 1:
        raise sqlite3.DatabaseError("the end of the audit log is lost")
    return Head(*found[0])


def read_rows(
    db: Database, only: AuditFilter | None = None, *, last: int | None = None, after: int = 0
) -> Iterator[AuditRow]:
    """Rows in order; of those that fit, the `last` ones only, and only those after a number."""
    where, values = (only or AuditFilter()).where()
    order = "number" if last is None else "number DESC LIMIT ?"
    limit = [] if last is None else [last]
    found = rows(
        db, f"SELECT * FROM audit WHERE {where} AND number > ? ORDER BY {order}",
        *values, after, *limit,
    )  # fmt: skip
    return (
        AuditRow.model_construct(**row)
        for row in (found if last is None else reversed(list(found)))
    )
