"""One rank's journal of one run, in SQLite: `RUN/steering/rankN.db`.

Each call is one transaction that writes a row of the audit log and what the call keeps in another
table, whose digest the row carries (audit.py).
"""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeVar

from pydantic import TypeAdapter
from sqlite_utils import Database

from rudder.memory.clock import now
from rudder.memory.decision_inputs import DecisionInputs, save_inputs
from rudder.memory.journal import AuditEntry, Journal, Recalled
from rudder.memory.model_calls import ModelCall, add_model_call
from rudder.memory.past.recall import Past, open_past
from rudder.memory.records import Episode, Observation
from rudder.memory.redaction import Redaction
from rudder.memory.run.audit import AuditLog, is_logged, unchained_rows
from rudder.memory.run.episodes import next_number, save_episode
from rudder.memory.run.run_file import open_run_file
from rudder.memory.run.slices import Slices
from rudder.memory.run.unfinished import unfinished
from rudder.memory.run.windows import add_window, next_window
from rudder.memory.store import Key, Store, Write
from rudder.training.errors import MachineError, RudderError, complain
from rudder.training.metrics import Window
from rudder.training.workload import Workload

Answer = TypeVar("Answer")

_RECALLED = TypeAdapter(list[Recalled])
_FAILURES = (sqlite3.Error, OSError, OverflowError, RudderError)
_REOPEN_S = 5.0
"""Between attempts to open a file that could not be opened."""


class SqliteJournal(Journal):
    """Records whenever the file can be written. Usable from any thread.

    SQLite waits a few seconds for a lock. A write that fails is lost, and the first failure is
    said. From then on each call tries again without waiting; the first that succeeds also writes a
    row `gap`, which counts what was lost. `failure`: why the last write failed, None if it did not;
    `has_gaps`: whether anything was lost.
    """

    def __init__(self, path: Path, *, past: Past) -> None:
        self.failure: str | None = None
        self.has_gaps = False
        self._path, self._past = path, past
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

    @classmethod
    def open(cls, path: Path, *, memory: Path | None) -> Self:
        """Open or create the file `path`; a damaged one is set aside.

        memory: file of past episodes, which need not exist; None: recall nothing. Never raises
        for what the disk does: such a journal has `is_writing` False, and opens the file later.
        """
        journal = cls(path, past=open_past(memory))
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
            "windows", lambda db: add_window(db, window, slices=self._slices or self._count(db))
        )
        self._read(Store.rest, None)

    def save(self, episode: Episode) -> None:
        """Keep an episode, replacing what was known of it under its id."""
        self._record(
            "episodes",
            lambda db: save_episode(db, episode, redaction=self._redaction),
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
            write=lambda db: add_model_call(db, call, redaction=self._redaction),
        )

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        """The nearest past episodes, good and bad; what was answered is kept for replay."""
        if self._workload is None:
            return []
        with self._lock:
            found = self._past.recall(observation, self._workload, limit=limit)
        self._record("recalls", lambda db: _add_recall(db, observation, found))
        return found

    def add_inputs(self, inputs: DecisionInputs) -> None:
        """Keep what a decision rests on; safe from a kill when this returns."""
        self._record(
            "decision_inputs",
            lambda db: save_inputs(
                db, inputs, session=self._session, first_window=self._first_window
            ),
            episode_id=inputs.episode_id,
        )

    def next_number(self) -> int:
        """The number that the next episode takes."""
        return self._read(lambda store: next_number(store.db), 0)

    def has_logged(self, call_id: str) -> bool:
        """Whether the audit log has a row of this call, or of this command's being applied."""
        return self._read(lambda store: is_logged(store.db, call_id), False)

    def unfinished(self) -> Episode | None:
        """After a restart: the newest episode if its outcome is missing, with the trainer's answer
        if that came. An episode with a command but no answer: ask the trainer."""
        return self._read(lambda store: unfinished(store.db), None)

    def close(self) -> None:
        """End the run; one plain file is left."""
        self._record("end_session", self._end)
        with self._lock:
            self._is_closed = True
            if self._store is not None:
                self._store.close()
            self._store = None
            self._past.close()

    # -- the one way to the file -----------------------------------------------------------

    def _record(self, tool: str, write: Write, *, episode_id: str | None = None) -> None:
        """Write to another table, with a row of the log that carries the digests."""
        self._append(self._entry("record", tool, episode_id=episode_id), write=write)

    def _append(self, *entries: AuditEntry, write: Write | None = None) -> bool:
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
            self._log.append(self._entry("note", "set_aside", result=store.damaged.name))
            store.damaged = None
        return self._log

    def _open_store(self) -> Store:
        if self._store is None:
            if self._is_closed or time.monotonic() < self._reopen_at:
                raise MachineError(self.failure or "it is closed", remedy="open it again")
            self._reopen_at = time.monotonic() + _REOPEN_S
            self._store = open_run_file(self._path)
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
        version = importlib.metadata.version("rudder-gnn")
        session, first_window = 0, 1

        def write(db: Database) -> Iterable[Key]:
            nonlocal session, first_window
            yield from unchained_rows(db)
            first_window = next_window(db)
            session = db.conn.execute(
                "INSERT INTO sessions (run_key, rank, began_at, version, workload)"
                " VALUES (?, ?, ?, ?, ?)",
                (workload.run_key, workload.rank, now(), version, workload.model_dump_json()),
            ).lastrowid  # type: ignore[assignment]  # of an INSERT it is never None
            yield "sessions", session

        identity = {"num_ranks": workload.world_size, "version": version}
        log.append(self._entry("record", "begin_session", arguments=identity), write=write)
        self._log, self._session, self._first_window = log, session, first_window
        if self._slices is not None:
            self._slices.begin(first_window=first_window)

    def _end(self, db: Database) -> Iterable[Key]:
        db.conn.execute("UPDATE sessions SET ended_at = ? WHERE number = ?", (now(), self._session))
        return [("sessions", self._session)]

    def _count(self, db: Database) -> Slices:
        """Count what slices take, as after a failed write."""
        self._slices = Slices(db)
        self._slices.begin(first_window=self._first_window)
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
            "next_window": next_window(self._store.db),
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


def _add_recall(db: Database, observation: Observation, found: list[Recalled]) -> Iterable[Key]:
    number = db.conn.execute(
        "INSERT INTO recalls (step, window, content) VALUES (?, ?, ?)",
        (observation.step, observation.window, _RECALLED.dump_json(found).decode()),
    ).lastrowid
    assert number is not None
    return [("recalls", number)]
