"""A run's files, `RUN/steering/rankN.db`: opened to be continued, found, and read."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from rudder.memory.files import set_aside
from rudder.memory.migrations import RUN_FILE
from rudder.memory.run.episodes import unfinished_episode
from rudder.memory.run.verify import verify
from rudder.memory.store import Store
from rudder.training.errors import DataError

FOLDER = "steering"
_NAME = re.compile(r"rank(\d+)\.db")
_ROWS_CHECKED = 20_000
"""Of an audit log that is gone on with: the last ones, so that a restart takes under a second."""


def run_file(run_dir: Path, *, rank: int) -> Path:
    """Where a rank's journal is."""
    return run_dir / FOLDER / f"rank{rank}.db"


def run_files(where: Path) -> list[Path]:
    """The files of a run folder, by rank; or `where` itself, if it is one. Raises DataError."""
    if where.is_file():
        return [where]
    found = {
        int(match[1]): path
        for path in (where / FOLDER).glob("*.db")
        if (match := _NAME.fullmatch(path.name))
    }
    if not found:
        raise DataError(
            f"{where} has no {FOLDER}/rankN.db",
            remedy="name the folder of a steered run, or one of its rankN.db files",
        )
    return [found[rank] for rank in sorted(found)]


def open_run_file(path: Path) -> Store:
    """Open a rank's file to write; one whose end is not as it was written is set aside.

    Raises as Store.open does.
    """
    store = Store.open(path, migrations=RUN_FILE)
    reason = _why_unusable(store)
    if reason is None:
        return store
    store.close()
    damaged = set_aside(path, reason=reason)
    store = Store.open(path, migrations=RUN_FILE)
    store.damaged = damaged
    return store


def _why_unusable(store: Store) -> str | None:
    """Why one cannot go on with the file, or None."""
    try:
        unfinished_episode(store.db)
        return verify(store.db, last=_ROWS_CHECKED).reason
    except (DataError, sqlite3.Error, UnicodeDecodeError) as error:
        return str(error).splitlines()[0]
