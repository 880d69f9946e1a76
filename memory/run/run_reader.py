"""A run's file, read: also while its controller writes it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlite_utils import Database

from rudder.memory.decision_inputs import KeptInputs, read_inputs
from rudder.memory.journal import Recalled
from rudder.memory.migrations import RUN_FILE
from rudder.memory.model_calls import ModelCall, read_model_calls
from rudder.memory.records import Episode
from rudder.memory.run.audit import AuditFilter, AuditRow, Head, read_head, read_rows
from rudder.memory.run.episodes import find_episode, read_episodes
from rudder.memory.run.slices import PrunedUses, read_pruned_uses
from rudder.memory.run.verify import Verification, verify
from rudder.memory.run.windows import read_rows_from, read_windows
from rudder.memory.store import open_reader, unreadable
from rudder.training.metrics import Window
from rudder.training.workload import Workload

_RECALLED = TypeAdapter(list[Recalled])
Found = TypeVar("Found")


class RunReader:
    """All that a rank's file holds; every method raises DataError for what is damaged.

    A context manager, which closes the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_reader(path, migrations=RUN_FILE)

    def workloads(self) -> dict[str, Workload]:
        """The workload that each run began with, by run key, oldest first; most often one."""
        return self._read(_workloads)

    def workload_of_session(self, number: int) -> Workload:
        """The workload that a controller was told; session: of its KeptInputs."""
        sql = "SELECT workload FROM sessions WHERE number = ?"
        return self._read(
            lambda db: Workload.model_validate_json(db.conn.execute(sql, [number]).fetchone()[0])
        )

    def episodes(self, *, finished: bool = False) -> list[Episode]:
        """In order; all, or those with an outcome."""
        return self._read(lambda db: list(read_episodes(db, finished=finished)))

    def episode(self, name: str) -> Episode | None:
        """By id or the beginning of one; None: not here."""
        return self._read(lambda db: find_episode(db, name))

    def episode_ids(self) -> list[str]:
        """Of all episodes, in no order."""
        sql = "SELECT episode_id FROM episodes"
        return self._read(lambda db: [str(row[0]) for row in db.conn.execute(sql)])

    def ended_at(self, episode_id: str) -> str:
        """When an episode was last saved."""
        sql = "SELECT saved_at FROM episodes WHERE episode_id = ?"
        return self._read(lambda db: str(db.conn.execute(sql, [episode_id]).fetchone()[0]))

    def windows(
        self, *, first: int = 0, last: int | None = None, with_slices: bool = False
    ) -> list[Window]:
        """By index, inclusive, in order; access slices only where asked for and still kept."""
        return self._read(
            lambda db: list(read_windows(db, first=first, last=last, with_slices=with_slices))
        )

    def windows_of_session(self, first_number: int) -> list[Window]:
        """With slices, from a row of the table `windows` on: those of a session, and later ones."""
        return self._read(lambda db: list(read_rows_from(db, first_number)))

    def pruned_uses(self, first_number: int) -> PrunedUses | None:
        """Sums of the slices that a session, named by its first window, has no more."""
        return self._read(lambda db: read_pruned_uses(db, first_number))

    def lost_windows(self) -> list[int]:
        """Rows of the table `windows` before which some could not be written."""
        sql = (
            "SELECT json_extract(result, '$.next_window') FROM audit WHERE tool = 'gap'"
            " AND json_extract(result, '$.lost.windows') > 0"
        )
        return self._read(lambda db: [int(row[0]) for row in db.conn.execute(sql)])

    def inputs(self) -> dict[str, KeptInputs]:
        """What decisions rested on, by episode id."""
        return self._read(lambda db: {each.inputs.episode_id: each for each in read_inputs(db)})

    def recalled(self, episode: Episode) -> list[Recalled]:
        """What recall answered when the episode was decided."""
        return self._read(lambda db: _recalled(db, episode))

    def model_calls(self, *, episode_id: str | None = None) -> list[ModelCall]:
        """Questions to models, of one episode or of all."""
        return self._read(lambda db: list(read_model_calls(db, episode_id=episode_id)))

    def audit(
        self, only: AuditFilter | None = None, *, last: int | None = None, after: int = 0
    ) -> list[AuditRow]:
        """Rows of the audit log, as read_rows says."""
        return self._read(lambda db: list(read_rows(db, only, last=last, after=after)))

    def audit_head(self) -> Head:
        """Where the audit log ends."""
        return self._read(read_head)

    def verify(self, *, known: tuple[Head, ...] = ()) -> Verification:
        """Whether the file is as it was written, at one moment of a run; never raises."""
        with self._one_moment():
            return verify(self._db, known=known)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _one_moment(self) -> Iterator[None]:
        """What a controller writes meanwhile is not seen within."""
        with contextlib.suppress(sqlite3.Error):
            self._db.conn.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._db.conn.rollback()

    def _read(self, action: Callable[[Database], Found]) -> Found:
        try:
            return action(self._db)
        except (sqlite3.Error, ValidationError, UnicodeDecodeError) as error:
            raise unreadable(self.path, str(error).splitlines()[0]) from None


def read_runs(paths: list[Path]) -> Iterator[RunReader]:
    """Open each file for as long as it is looked at."""
    for path in paths:
        with RunReader(path) as reader:
            yield reader


def _workloads(db: Database) -> dict[str, Workload]:
    found = db.conn.execute("SELECT run_key, workload FROM sessions ORDER BY number")
    return {run_key: Workload.model_validate_json(content) for run_key, content in found}


def _recalled(db: Database, episode: Episode) -> list[Recalled]:
    seen = episode.observation
    found = db.conn.execute(
        "SELECT content FROM recalls WHERE step = ? AND window = ? ORDER BY number DESC LIMIT 1",
        [seen.step, seen.window],
    ).fetchone()
    return [] if found is None else _RECALLED.validate_json(found[0])
