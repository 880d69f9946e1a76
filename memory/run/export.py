"""The record of all ranks in one SQLite file, for questions in SQL over all of them."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

from rudder.memory.database import Database
from rudder.memory.run.run_reader import RunReader, read_runs

TABLES = ("sessions", "episodes", "windows", "audit", "model_calls")
"""What is copied; the rest is for replay, and holds no text or number to ask for."""
_ROWS_AT_ONCE = 1000


def export_run(files: list[Path], out: Path) -> dict[str, int]:
    """Copy the records of ranks into a new file; returns the number of rows of each table.

    Each table has the column `rank`. Rows of `audit` and `model_calls` refer to their episode, by
    which Datasette links both ways. Raises DataError for a record that cannot be read, and OSError
    where `out` cannot be written.
    """
    fresh = out.with_name(f"{out.name}.tmp")
    fresh.unlink(missing_ok=True)
    fresh.touch()
    try:
        with closing(sqlite3.connect(fresh)) as db, db:
            for reader in read_runs(files):
                for table in TABLES:
                    _copy(reader, table, db)
            counts = {each: _num_rows(db, each) for each in TABLES}
        fresh.replace(out)
    except sqlite3.Error as error:  # a full disk; readers raise DataError
        raise OSError(errno.EIO, str(error)) from None
    finally:
        fresh.unlink(missing_ok=True)
    return counts


def _copy(reader: RunReader, table: str, db: sqlite3.Connection) -> None:
    columns = {name: kind for name, kind in _columns(reader.db, table).items() if name != "rank"}
    _create(db, table, columns)
    rows = reader.db.execute(f"SELECT {', '.join(columns)} FROM {table}")
    marks = ", ".join("?" * len(columns))
    while some := reader.read(lambda: rows.fetchmany(_ROWS_AT_ONCE)):
        db.executemany(f"INSERT INTO {table} VALUES ({reader.rank()}, {marks})", some)


def _create(db: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    lines = ["rank INTEGER", *(f"{name} {kind}" for name, kind in columns.items())]
    has_episode = "episode_id" in columns and table != "episodes"
    if has_episode:
        lines.append("FOREIGN KEY (episode_id) REFERENCES episodes (episode_id)")
    key = "episode_id" if table == "episodes" else "rank, number"
    db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(lines)}, PRIMARY KEY ({key}))")
    if has_episode:
        db.execute(f"CREATE INDEX IF NOT EXISTS {table}_of_episode ON {table} (episode_id)")


def _columns(db: Database, table: str) -> dict[str, str]:
    """Name and type of each, in their order."""
    found = db.execute("SELECT name, type FROM pragma_table_info(?)", [table]).fetchall()
    return dict(found)


def _num_rows(db: sqlite3.Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count
