"""One rank's journal of one run, in SQLite: `RUN/steering/rankN.db`.

Each call is one transaction that writes a row of the audit log and what the call keeps in another
table, whose digest the row carries (audit.py).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from rudder.memory.database import Database
from rudder.memory.journal import AuditEntry, DecisionInputs, Journal, ModelCall, Recalled
from rudder.memory.migrations import RUN_FILE
from rudder.memory.past.recall import Recall
from rudder.memory.records import Episode, Observation
from rudder.memory.run import tables
from rudder.memory.run.audit import (
    HEAD_OF_RANK,
    AuditLog,
    Head,
    is_logged,
    read_head,
    unchained_rows,
)
from rudder.memory.run.slices import MAX_FILE_BYTES, Slices
from rudder.memory.run.verify import verify
from rudder.memory.store import Key, RecordWrite, Redaction, Store, now
from rudder.training.buffer.hot_set import HotSet
from rudder.training.control.messages import LogHead
from rudder.training.errors import DataError, MachineError, RudderError, complain
from rudder.training.metrics import Window
from rudder.training.versions import own_version
from rudder.training.workload import Workload

Answer = TypeVar("Answer")

_FAILURES = (sqlite3.Error, OSError, OverflowError, RudderError)
_REOPEN_S = 5.0
"""Between attempts to open a file that could not be opened."""
_ROWS_CHECKED = 20_000
"""Of an audit log that is gone on with: the last ones, so that a restart takes under a second."""


def _problem(db: Database) -> str | None:
    """Why a controller cannot go on with a file: its end is not as it was written."""
    try:
        tables.unfinished_episode(db)
        return verify(db, last=_ROWS_CHECKED).reason
    except (DataError, sqlite3.Error, UnicodeDecodeError) as error:
        return str(error).splitlines()[0]


class SqliteJournal(Journal):
    """Records whenever the file can be written. Usable from any thread.

    SQLite waits a few seconds for a lock. A write that fails is lost, and the first failure is
    said. From then on each call tries again without waiting; the first that succeeds also writes a
    row `gap`, which counts what was lost. `failure`: why the last write failed, None if it did not;
    `has_gaps`: whether anything was lost.
    """

    def __init__(self, path: Path, *, memory: Path | None, max_slice_bytes: int) -> None:
        self.failure: str | None = None
        self.has_gaps = False
        self._path, self._max_slice_bytes = path, max_slice_bytes
        self._past: Recall | None = None
        self._lock = threading.RLock()
        self._redaction = Redaction()
        self._workload: Workload | None = None
        self._store: Store | None = None
        self._log: AuditLog | None = None
        self._slices: Slices | None = None
        self._session, self._first_window, self._step = 0, 1, 0
        self._lost: Counter[str] = Counter()
        self._lost_since = ""
        self._reopen_at = 0.0
        self._is_told = False
        self._is_closed = False
        if memory is not None and memory.exists():
            with self._without_memory_on_error():
                self._past = Recall(memory)

    @classmethod
    def open(
        cls, path: Path, *, memory: Path | None, max_slice_bytes: int = MAX_FILE_BYTES
    ) -> Self:
        """Open or create the file `path`; a damaged one is moved away.

        memory: file of past episodes, which need not exist; None: recall nothing. Never raises
        for what the disk does: such a journal has `is_writing` False, and opens the file later.
        """
        journal = cls(path, memory=memory, max_slice_bytes=max_slice_bytes)
        journal.resume()
        return journal

    @property
    def is_writing(self) -> bool:
        """Whether the last write succeeded."""
        return self.failure is None

    def resume(self) -> bool:
        """Whether the journal can write; tries again where it could not."""
        with self._lock:
            try:
                self._open_store()
                if self._workload is not None:
                    log = self._ready()
                    if gap := self._gap():
                        log.append(*gap)
                self._recover()
            except _FAILURES as error:
                self._fail(error)
            return self.is_writing

    def begin(self, workload: Workload) -> None:
        """A run begins, or goes on after the controller was restarted, with the next numbers."""
        self._workload, self._log = workload, None
        self.resume()

    def add_window(self, window: Window) -> None:
        """Keep a window; slices are pruned as slices.py says.

        A long write-ahead log is checkpointed here, where no decision waits for the disk.
        """
        self._step = window.first_step + window.num_steps
        self._record(
            "windows", lambda db: tables.add_window(db, window, slices=self._known_slices(db))
        )
        self._read(Store.rest, None)

    def save(self, episode: Episode) -> None:
        """Keep an episode, replacing what was known of it under its id."""
        self._record(
            "episodes",
            lambda db: tables.save_episode(db, episode, redaction=self._redaction),
            episode_id=episode.episode_id,
        )

    def log(self, entry: AuditEntry) -> bool:
        """Append to the audit log; True: the row is in the file and safe from a kill."""
        return self._append(entry)

    def add_model_call(self, call: ModelCall) -> None:
        """Keep a question to a model and its answer, without secrets: a row of the log for each."""
        asked = AuditEntry(
            kind="call",
            call_id=call.call_id,
            agent=call.agent,
            tool="ask_model",
            step=call.step,
            episode_id=call.episode_id,
            model=call.model,
        )
        answered = {
            "kind": "result",
            "outcome": "answered" if call.error_type is None else "failed",
            **call.model_dump(
                include={"error_type", "input_tokens", "output_tokens", "latency_ms"}
            ),
        }
        self._append(
            asked,
            asked.model_copy(update=answered),
            write=lambda db: tables.add_model_call(db, call, redaction=self._redaction),
        )

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        """The nearest past episodes, good and bad; what was answered is kept for replay."""
        if self._workload is None:
            return []
        found: list[Recalled] = []
        with self._lock, self._without_memory_on_error():
            if self._past is not None:
                found = self._past.recall(observation, self._workload, limit=limit)
        self._record("recalls", lambda db: tables.add_recall(db, observation, found))
        return found

    def hot_set(self) -> HotSet | None:
        """What the last run on the same work used most; None where memory has none."""
        with self._lock, self._without_memory_on_error():
            if self._past is not None and self._workload is not None:
                return self._past.hot_set(self._workload)
        return None

    def add_inputs(self, inputs: DecisionInputs, *, calls: Sequence[AuditEntry] = ()) -> None:
        """Keep what a decision rests on; safe from a kill when this returns."""
        self._append(
            *calls,
            self._entry("record", "decision_inputs", episode_id=inputs.episode_id),
            write=lambda db: tables.save_inputs(
                db, inputs, session=self._session, first_window=self._first_window
            ),
        )

    def head(self) -> LogHead | None:
        """Where the log ends; None before its first row, and where that cannot be read."""
        end = self._read(lambda store: read_head(store.db), Head())
        if self._workload is None or not end.number:
            return None
        return LogHead(rank=self._workload.rank, number=end.number, hash=end.hash)

    def note_head(self, head: LogHead) -> None:
        """Keep where another rank's log ended, whatever its file says later."""
        self._append(self._entry("record", HEAD_OF_RANK, result=head.model_dump()))

    def next_number(self) -> int:
        """The number that the next episode takes."""
        sql = "SELECT coalesce(max(number) + 1, 0) FROM episodes"
        return self._read(lambda store: int(store.db.conn.execute(sql).fetchone()[0]), 0)

    def has_logged(self, call_id: str) -> bool:
        """Whether the audit log has a row of this call, or of this command's being applied."""
        return self._read(lambda store: is_logged(store.db, call_id), False)

    def unfinished(self) -> Episode | None:
        """After a restart: the newest episode if its outcome is missing, with the trainer's answer
        if that came. An episode with a command but no answer: ask the trainer."""
        return self._read(lambda store: tables.unfinished_episode(store.db), None)

    def close(self) -> None:
        """End the run; one plain file is left."""
        self._record("end_session", self._end)
        with self._lock:
            self._is_closed = True
            if self._store is not None:
                self._store.close()
            self._store = None
            self._close_memory()

    def _close_memory(self) -> None:
        if self._past is not None:
            self._past.close()
        self._past = None

    @contextlib.contextmanager
    def _without_memory_on_error(self) -> Iterator[None]:
        """After its first error the memory of earlier runs is not read any more."""
        try:
            yield
        except RudderError as error:
            self._close_memory()
            complain(f"rudder: goes on without the memory of earlier runs: {error}")

    # -- the one way to the file -----------------------------------------------------------

    def _record(self, tool: str, write: RecordWrite, *, episode_id: str | None = None) -> None:
        """Write to another table, with a row of the log that carries the digests."""
        self._append(self._entry("record", tool, episode_id=episode_id), write=write)

    def _append(self, *entries: AuditEntry, write: RecordWrite | None = None) -> bool:
        """Whether the rows are in the file, with all that `write` writes. Before `begin` and after
        `close` nothing is kept."""
        if self._workload is None or self._is_closed:
            return False
        with self._lock:
            try:
                log = self._ready()
                log.append(*self._gap(), *entries, write=write)
            except _FAILURES as error:
                self._lost.update(e.tool if e.kind == "record" else e.kind for e in entries)
                self.has_gaps = True
                self._fail(error)
                return False
            self._recover()
            return True

    def _ready(self) -> AuditLog:
        """The log, in a session of this run; raises what keeps it from being there."""
        store = self._open_store()
        if self._log is None:
            assert self._workload is not None
            self._begin(store, self._workload)
        assert self._log is not None
        if store.damaged is not None:
            self._log.append(self._entry("note", "damaged_file", result=store.damaged.name))
            store.damaged = None
        return self._log

    def _open_store(self) -> Store:
        if self._store is None:
            if self._is_closed or time.monotonic() < self._reopen_at:
                raise MachineError(self.failure or "it is closed", remedy="open it again")
            self._reopen_at = time.monotonic() + _REOPEN_S
            self._store = Store.open(self._path, migrations=RUN_FILE, problem=_problem)
        return self._store

    def _recover(self) -> None:
        """A write succeeded."""
        self._lost.clear()
        if self.failure is not None and self._store is not None:
            self.failure = None
            self._store.wait_for_locks(is_patient=True)

    def _begin(self, store: Store, workload: Workload) -> None:
        log = AuditLog(
            store, run_key=workload.run_key, rank=workload.rank, redaction=self._redaction
        )
        self._slices, version = None, own_version()

        def write(db: Database) -> Iterable[Key]:
            yield from unchained_rows(db)
            self._first_window = tables.next_window(db)
            self._session = tables.add_session(db, workload, version=version)
            yield "sessions", self._session

        identity = {"num_ranks": workload.world_size, "version": version}
        log.append(self._entry("record", "begin_session", arguments=identity), write=write)
        self._log = log

    def _end(self, db: Database) -> Iterable[Key]:
        db.conn.execute("UPDATE sessions SET ended_at = ? WHERE number = ?", (now(), self._session))
        return [("sessions", self._session)]

    def _known_slices(self, db: Database) -> Slices:
        """What slices take is counted anew in each session, and after a failed write."""
        if self._slices is None:
            first = self._first_window
            self._slices = Slices(db, first_window=first, max_bytes=self._max_slice_bytes)
        return self._slices

    def _fail(self, error: Exception) -> None:
        self._slices = None
        if self.failure is None:
            self._lost_since = now()
            if self._store is not None:
                self._store.wait_for_locks(is_patient=False)
        self.failure = error.message if isinstance(error, RudderError) else str(error)
        if not self._is_told:
            self._is_told = True
            complain(
                f"rudder: the journal cannot be written: {self._path}: {self.failure}\n"
                "  what to do: make room or give write access; until then training goes on, nothing"
                " is recorded, and so nothing is changed"
            )

    def _gap(self) -> list[AuditEntry]:
        """A row that counts what was lost; none where nothing was."""
        if not self._lost or self._store is None:
            return []
        gap = {
            "reason": self.failure,
            "since": self._lost_since,
            "lost": dict(self._lost),
            "next_window": tables.next_window(self._store.db),
        }
        return [self._entry("note", "gap", result=gap)]

    def _entry(self, kind: str, tool: str, **values: object) -> AuditEntry:
        """A row of the journal's own; arguments and result are given as values."""
        as_json = {
            name: json.dumps(value) if name in ("arguments", "result") else value
            for name, value in values.items()
        }
        own = {"call_id": uuid.uuid4().hex, "agent": "act", "step": self._step}
        return AuditEntry.model_validate({"kind": kind, "tool": tool, **own, **as_json})

    def _read(self, action: Callable[[Store], Answer], otherwise: Answer) -> Answer:
        with self._lock:
            if self._store is None:
                return otherwise
            try:
                return action(self._store)
            except _FAILURES as error:
                complain(f"rudder: {self._path}: {error}")
                return otherwise
