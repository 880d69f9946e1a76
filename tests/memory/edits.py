"""Edits of a run's file behind its back, each of which `verify` must find."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rudder.memory.migrations import FIRST_HASH
from rudder.memory.run.audit import CHAINED, COLUMNS, row_hash

Connection = sqlite3.Connection


def edit_log(path: Path, *, draw: random.Random) -> str:
    """Make one random edit; returns its kind."""
    kind = draw.choice([*_EDITS, "byte"])
    if kind == "byte":
        _flip_byte(path, draw)
        return kind
    with without_triggers(path, num_lost=int(kind == "trigger")) as connection:
        _EDITS[kind](connection, draw)
    return kind


@contextmanager
def without_triggers(path: Path, *, num_lost: int = 0) -> Iterator[Connection]:
    """A connection that may change the log; its triggers are there again afterwards, but some."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    made = triggers.fetchall()
    for name, _ in made:
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    for _, sql in made[num_lost:]:
        connection.execute(sql)
    connection.commit()
    connection.close()


def write_hashes(connection: Connection) -> None:
    """Make the chain hold again."""
    names, previous, number = ", ".join(COLUMNS), FIRST_HASH, 0
    for values in connection.execute(f"SELECT {names} FROM audit ORDER BY number").fetchall():
        row = {**dict(zip(COLUMNS, values, strict=True)), "previous_hash": previous}
        number, found = row["number"], row_hash(row)
        sql = "UPDATE audit SET previous_hash = ?, hash = ? WHERE number = ?"
        connection.execute(sql, [previous, found, number])
        previous = found
    connection.execute("UPDATE audit_head SET number = ?, hash = ?", [number, previous])


def log_content(path: Path) -> object:
    """All that can be read back, with the tables' text; None where it cannot."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        rows = [connection.execute(f"SELECT * FROM {name}").fetchall() for name in _LOG]
        tables = sorted(connection.execute("SELECT type, name, sql FROM sqlite_master"), key=repr)
        connection.close()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return repr((rows, tables))


_LOG = ("audit", "audit_head", *CHAINED)


def _flip_byte(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def _change_cell(connection: Connection, draw: random.Random) -> None:
    number, column = _any_row(connection, draw), draw.choice(COLUMNS)
    old = connection.execute(f"SELECT {column} FROM audit WHERE number = ?", [number]).fetchone()[0]
    new = draw.choice([value for value in _others(column, old) if value != old])
    connection.execute(f"UPDATE audit SET {column} = ? WHERE number = ?", [new, number])


def _others(column: str, old: object) -> list[object]:
    if column == "number":
        return [10**6, 0, -1]
    if column in ("rank", "step", "input_tokens", "output_tokens"):
        return [0, 1, 7, int(str(old or 0)) + 1]
    if column == "latency_ms":
        return [0.0, 1.0, float(str(old or 0)) + 0.5]
    text = str(old or "")
    return ["", text + " ", text[:-1] + "x", text.upper() + "1"]


def _delete(connection: Connection, draw: random.Random) -> None:
    connection.execute("DELETE FROM audit WHERE number = ?", [_any_row(connection, draw)])


def _delete_end(connection: Connection, draw: random.Random) -> None:
    last = connection.execute("SELECT max(number) FROM audit").fetchone()[0]
    first = draw.randrange(max(1, last - 5), last + 1)
    connection.execute("DELETE FROM audit WHERE number >= ?", [first])


def _delete_end_and_say_so(connection: Connection, draw: random.Random) -> None:
    """The head is set back too, but to the hash that it had."""
    _delete_end(connection, draw)
    connection.execute("UPDATE audit_head SET number = (SELECT max(number) FROM audit)")


def _insert(connection: Connection, draw: random.Random) -> None:
    copied = _any_row(connection, draw)
    last = connection.execute("SELECT max(number) FROM audit").fetchone()[0]
    names = ", ".join(COLUMNS[1:])
    connection.execute(
        f"INSERT INTO audit SELECT ?, {names} FROM audit WHERE number = ?", [last + 1, copied]
    )


def _swap(connection: Connection, draw: random.Random) -> None:
    last = connection.execute("SELECT max(number) FROM audit").fetchone()[0]
    one, other = draw.sample(range(1, last + 1), 2)
    for old, new in ((one, -1), (other, one), (-1, other)):
        connection.execute("UPDATE audit SET number = ? WHERE number = ?", [new, old])


def _change_head(connection: Connection, draw: random.Random) -> None:
    change = draw.choice(["number = number + 1", "number = number - 1", "hash = 'x' || hash"])
    connection.execute(f"UPDATE audit_head SET {change}")


def _change_table(connection: Connection, draw: random.Random) -> None:
    """Change a cell of another table, or copy one from another row."""
    table, key, row = _any_table_row(connection, draw)
    names = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
    column = draw.choice([name for name in names if name != key])
    old = connection.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", [row]).fetchone()[0]
    new = {bytes: b"other", str: f"{old} ", int: 7, float: 0.5}.get(type(old))
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", [new, row])


def _delete_from_table(connection: Connection, draw: random.Random) -> None:
    table, key, row = _any_table_row(connection, draw)
    connection.execute(f"DELETE FROM {table} WHERE {key} = ?", [row])


def _insert_into_table(connection: Connection, draw: random.Random) -> None:
    table, key, row = _any_table_row(connection, draw)
    names = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
    cells = ", ".join(f"{name} || 9" if name == key else name for name in names)
    connection.execute(f"INSERT INTO {table} SELECT {cells} FROM {table} WHERE {key} = ?", [row])


def _any_table_row(connection: Connection, draw: random.Random) -> tuple[str, str, object]:
    """A table, its primary key, and the key of one of its rows."""
    filled = {
        table: [row[0] for row in connection.execute(f"SELECT {key} FROM {table}")]
        for table, key in CHAINED.items()
    }
    table = draw.choice([table for table, rows in filled.items() if rows])
    return table, CHAINED[table], draw.choice(filled[table])


def _nothing(connection: Connection, draw: random.Random) -> None:
    """Leave out a trigger, which edit_log does."""


def _any_row(connection: Connection, draw: random.Random) -> int:
    return draw.randint(1, connection.execute("SELECT max(number) FROM audit").fetchone()[0])


_EDITS: dict[str, Callable[[Connection, random.Random], None]] = {
    "cell": _change_cell,
    "delete": _delete,
    "cut": _delete_end,
    "cut and head": _delete_end_and_say_so,
    "insert": _insert,
    "swap": _swap,
    "head": _change_head,
    "trigger": _nothing,
    "table cell": _change_table,
    "table delete": _delete_from_table,
    "table insert": _insert_into_table,
}
