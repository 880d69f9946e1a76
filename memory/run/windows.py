"""Windows in a run's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from sqlite_utils import Database

from rudder.memory.run.slices import Slices, read_slice
from rudder.memory.store import Key
from rudder.training.errors import DataError
from rudder.training.metrics import Window

_COLUMNS = (
    "window", "epoch", "first_step", "num_steps", "capacity_rows", "remote_rows", "hits",
    "rows_fetched", "exposed_wait_s", "wall_s", "content",
)  # fmt: skip
_INSERT = f"INSERT INTO windows ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


def add_window(db: Database, window: Window, *, slices: Slices) -> Iterable[Key]:
    """Write a window and its access slice; returns all rows that this wrote or pruned."""
    values = (
        window.index,
        window.epoch,
        window.first_step,
        window.num_steps,
        window.settings.capacity_rows,
        window.rows.remote_rows,
        window.rows.hits,
        window.rows.rows_fetched.total,
        window.seconds.exposed_wait,
        window.wall_seconds,
        window.model_dump_json(exclude={"accesses"}),
    )
    number = db.conn.execute(_INSERT, values).lastrowid
    assert number is not None
    yield "windows", number
    if window.accesses is not None:
        yield from slices.add(db, window.accesses, number=number, window=window.index)


def read_windows(
    db: Database, *, first: int = 0, last: int | None = None, with_slices: bool = False
) -> Iterator[Window]:
    """Windows by their index (inclusive), in the order they came; of a window that came twice,
    both. Raises DataError for a damaged one."""
    end = 2**62 if last is None else last
    return _read(db, "window BETWEEN ? AND ?", first, end, with_slices=with_slices)


def read_rows_from(db: Database, first_number: int) -> Iterator[Window]:
    """Windows with their slices, where these are kept, from a row of the table on, in order.

    Raises DataError for a damaged one.
    """
    return _read(db, "number >= ?", first_number, with_slices=True)


def next_window(db: Database) -> int:
    """The number that the next row of the table takes."""
    return int(db.conn.execute("SELECT coalesce(max(number) + 1, 1) FROM windows").fetchone()[0])


def _read(db: Database, where: str, *values: int, with_slices: bool) -> Iterator[Window]:
    found = db.conn.execute(
        f"SELECT number, content FROM windows WHERE {where} ORDER BY number", values
    )
    for number, content in found:
        accesses = read_slice(db, number) if with_slices else None
        yield _parse(number, content).model_copy(update={"accesses": accesses})


def _parse(number: int, content: str) -> Window:
    try:
        return Window.model_validate_json(content)
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"window {number} is damaged: {str(error).splitlines()[0]}", remedy="leave it out"
        ) from None
