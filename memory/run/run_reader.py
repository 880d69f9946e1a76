"""A run's files, `RUN/steering/rankN.db`: found, and read, also while their controllers write."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rudder.memory.journal import DecisionInputs, KeptInputs, ModelCall, Recalled
from rudder.memory.migrations import RUN_FILE
from rudder.memory.records import Episode
from rudder.memory.run.audit import CHAINED, AuditFilter, AuditRow, Head, read_head, read_rows
from rudder.memory.run.slices import PrunedUses, read_pruned_uses, read_slice
from rudder.memory.run.tables import RECALLED, parse_episode
from rudder.memory.run.verify import Verification, verify
from rudder.memory.store import Reader, Value, parse
from rudder.training.errors import DataError
from rudder.training.metrics import Window
from rudder.training.workload import Workload

FOLDER = "steering"
_NAME = re.compile(r"rank(\d+)\.db")


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


@dataclass(frozen=True)
class LogOrigin:
    """Whose log a file has."""

    run_key: str
    rank: int


class RunReader(Reader):
    """All that a rank's file holds; methods raise as those of Reader do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, migrations=RUN_FILE)

    def workloads(self) -> dict[str, Workload]:
        """The workload that each run began with, by run key, oldest first; most often one."""
        found = self.rows("SELECT number, run_key, workload FROM sessions ORDER BY number")
        return {row["run_key"]: _workload(row) for row in found}

    def rank(self) -> int | None:
        """The rank of the trainer; None where no controller ever began."""
        found = self.rows("SELECT rank FROM sessions LIMIT 1")
        return int(found[0]["rank"]) if found else None

    def last_session(self) -> int:
        """The number of the last session; raises DataError where none began."""
        found = self.rows("SELECT max(number) AS number FROM sessions")[0]["number"]
        if found is None:
            raise DataError(
                f"in {self.path} no controller ever began", remedy="name a run that was steered"
            )
        return int(found)

    def workload_of_session(self, number: int) -> Workload:
        """The workload that a controller was told; session: of its KeptInputs."""
        found = self.rows("SELECT number, workload FROM sessions WHERE number = ?", number)
        return _workload(found[0])

    def episodes(self, *, finished: bool = False) -> list[Episode]:
        """In order; all, or those with an outcome."""
        where = "result IS NOT NULL" if finished else "1"
        return self._episodes(f"WHERE {where} ORDER BY number, began_at")

    def episode(self, name: str) -> Episode | None:
        """The episode with this id, or the only one whose id begins so; None: not here."""
        exact = self._episodes("WHERE episode_id = ?", name)
        begun = exact or self._episodes("WHERE instr(episode_id, ?) = 1 LIMIT 2", name)
        if len(begun) > 1:
            ids = ", ".join(each.episode_id for each in begun)
            raise DataError(
                f"several episodes begin with {name}: {ids}", remedy="give more of the id"
            )
        return begun[0] if begun else None

    def episode_ids(self) -> list[str]:
        """Of all episodes, in no order."""
        return [row["episode_id"] for row in self.rows("SELECT episode_id FROM episodes")]

    def ended_at(self, episode_id: str) -> str:
        """When an episode was last saved."""
        sql = "SELECT saved_at FROM episodes WHERE episode_id = ?"
        return str(self.rows(sql, episode_id)[0]["saved_at"])

    def windows(self, *, with_slices: bool = False) -> list[Window]:
        """In the order they came, of a window that came twice both; access slices only where asked
        for and still kept."""
        return self._windows(1, with_slices=with_slices)

    def windows_after(self, number: int | None) -> list[tuple[int, Window]]:
        """Rows of the table `windows` after this one, with their numbers; None: those of the epoch
        that the last window is of."""
        where = "epoch = (SELECT epoch FROM windows ORDER BY number DESC LIMIT 1)"
        if number is not None:
            where = f"number > {int(number)}"
        found = self.rows(f"SELECT number, content FROM windows WHERE {where} ORDER BY number")
        return self.read(
            lambda: [(row["number"], self._window(row, with_slices=False)) for row in found]
        )

    def windows_of_session(self, first_number: int) -> list[Window]:
        """With slices, from a row of the table `windows` on: those of a session, and later ones."""
        return self._windows(first_number, with_slices=True)

    def pruned_uses(self, first_number: int) -> PrunedUses | None:
        """Sums of the slices that a session, named by its first window, has no more."""
        return self.read(lambda: read_pruned_uses(self.db, first_number))

    def lost_windows(self) -> list[int]:
        """Rows of the table `windows` before which some could not be written."""
        found = self.rows(
            "SELECT json_extract(result, '$.next_window') AS number FROM audit WHERE tool = 'gap'"
            " AND json_extract(result, '$.lost.windows') > 0"
        )
        return [int(row["number"]) for row in found]

    def inputs(self) -> dict[str, KeptInputs]:
        """What decisions rested on, by episode id."""
        found = self.rows(
            "SELECT decision_inputs.*, version FROM decision_inputs"
            " JOIN sessions ON sessions.number = session ORDER BY session"
        )
        return {row["episode_id"]: _kept_inputs(**row) for row in found}

    def recalled(self, episode: Episode) -> list[Recalled]:
        """What recall answered when the episode was decided."""
        seen = episode.observation
        found = self.rows(
            "SELECT content FROM recalls WHERE step = ? AND window = ?"
            " ORDER BY number DESC LIMIT 1",
            seen.step,
            seen.window,
        )
        return self.read(lambda: RECALLED.validate_json(found[0]["content"])) if found else []

    def model_calls(self, *, episode: Episode | None = None) -> list[ModelCall]:
        """Questions to models in order: all, or those that an episode asked, and those whose
        answers its plans come from."""
        where: str = "1"
        values: list[str | int] = [] if episode is None else [episode.episode_id]
        if episode is not None:
            steps = {plan.asked_step for plan in episode.plans if plan.asked_step is not None}
            where = f"episode_id = ? OR step IN ({', '.join('?' * len(steps))})"
            values += steps
        found = self.rows(f"SELECT * FROM model_calls WHERE {where} ORDER BY number", *values)
        return self.read(lambda: [ModelCall.model_validate(row) for row in found])

    def audit(
        self, only: AuditFilter | None = None, *, last: int | None = None, after: int = 0
    ) -> list[AuditRow]:
        """Rows of the audit log, as read_rows says."""
        return self.read(lambda: list(read_rows(self.db, only, last=last, after=after)))

    def origin(self) -> LogOrigin | None:
        """Whose log it is, as its first row says; None of an empty one."""
        found = self.rows("SELECT run_key, rank FROM audit WHERE number = 1")
        return LogOrigin(**found[0]) if found else None

    def audit_head(self) -> Head:
        """Where the audit log ends."""
        return self.read(lambda: read_head(self.db))

    def verify(
        self,
        *,
        known: tuple[Head, ...] = (),
        on_row: Callable[[int], object] = lambda count: None,
    ) -> Verification:
        """Whether the file is as it was written, at one moment of a run; never raises.

        on_row: called with 1 after each of the rows that `num_chained_rows` counts.
        """
        with contextlib.suppress(sqlite3.Error):
            self.db.conn.execute("BEGIN")  # what a controller writes meanwhile is not seen
        try:
            return verify(self.db, known=known, on_row=on_row)
        finally:
            with contextlib.suppress(sqlite3.Error):
                self.db.conn.rollback()

    def num_chained_rows(self) -> int:
        """Rows of the log, and of the tables whose rows have their digests in it."""
        sums = [f"(SELECT count(*) FROM {table})" for table in ("audit", *CHAINED)]
        return int(self.rows(f"SELECT {' + '.join(sums)} AS number")[0]["number"])

    def _episodes(self, where: str, *values: Value) -> list[Episode]:
        found = self.rows(f"SELECT episode_id, content, checksum FROM episodes {where}", *values)
        return [parse_episode(*row.values()) for row in found]

    def _windows(self, first_number: int, *, with_slices: bool) -> list[Window]:
        found = self.rows(
            "SELECT number, content FROM windows WHERE number >= ? ORDER BY number", first_number
        )
        return self.read(lambda: [self._window(row, with_slices=with_slices) for row in found])

    def _window(self, row: dict[str, Any], *, with_slices: bool) -> Window:
        window = parse(Window, row["content"], what=f"window {row['number']}")
        accesses = read_slice(self.db, row["number"]) if with_slices else None
        return window.model_copy(update={"accesses": accesses})


def read_runs(paths: list[Path]) -> Iterator[RunReader]:
    """Open each file for as long as it is looked at."""
    for path in paths:
        with RunReader(path) as reader:
            yield reader


def _workload(row: dict[str, Any]) -> Workload:
    return parse(Workload, row["workload"], what=f"the workload of session {row['number']}")


def _kept_inputs(*, episode_id: str, content: str, **session: Any) -> KeptInputs:
    inputs = parse(DecisionInputs, content, what=f"what {episode_id} rested on")
    return KeptInputs(inputs=inputs, **session)
