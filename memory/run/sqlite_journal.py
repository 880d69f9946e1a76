"""One rank's journal of one run, in SQLite: `RUN/steering/rankN.db`."""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from pydantic import TypeAdapter

from rudder.memory.clock import now
from rudder.memory.decision_inputs import DecisionInputs, save_inputs
from rudder.memory.journal import AuditEntry, Recalled
from rudder.memory.model_calls import ModelCall, add_model_call
from rudder.memory.past.recall import NullPast, Past, open_past
from rudder.memory.records import Episode, Observation
from rudder.memory.redaction import Redaction
from rudder.memory.run.audit import AuditLog, is_logged
from rudder.memory.run.episodes import next_number, save_episode
from rudder.memory.run.run_file import open_run_file
from rudder.memory.run.slices import Slices
from rudder.memory.run.unfinished import Unfinished, unfinished
from rudder.memory.run.windows import add_window, next_window
from rudder.memory.store import Store
from rudder.training.complaint import complain
from rudder.training.errors import RudderError
from rudder.training.metrics import Window
from rudder.training.workload import Workload

Answer = TypeVar("Answer")

_RECALLED = TypeAdapter(list[Recalled])
_FAILURES = (sqlite3.Error, OSError, OverflowError, RudderError)


class SqliteJournal:
    """Writes until it cannot: then says so once, and the run goes on without.

    `is_writing`: whether all that was given so far was written; `failure`: why not, or None.
    Usable from any thread.
    """

    def __init__(self, store: Store | None, *, past: Past) -> None:
        self.failure: str | None = None
        self._store = store
        self._past = past
        self._lock = threading.RLock()
        self._redaction = Redaction()
        self._workload: Workload | None = None
        self._audit: AuditLog | None = None
        self._slices = Slices(store.db) if store else None
        self._session: int | None = None
        self._first_window = 1

    @classmethod
    def open(cls, path: Path, *, memory: Path | None) -> Self:
        """Open or create the file `path`; a damaged one is set aside.

        memory: file of past episodes, which need not exist; None: recall nothing. Never raises
        for what the disk does: such a journal has `is_writing` False.
        """
        past = NullPast() if memory is None else open_past(memory)
        try:
            return cls(open_run_file(path), past=past)
        except _FAILURES as error:
            journal = cls(None, past=past)
            journal._fail(f"{path}: {error}")
            return journal

    @property
    def is_writing(self) -> bool:
        """Whether nothing was lost so far."""
        return self.failure is None

    def begin(self, workload: Workload) -> None:
        """A run begins, or goes on after the controller was restarted, with the next numbers."""
        self._workload = workload
        self._write(lambda store: self._begin(store, workload))

    def add_window(self, window: Window) -> None:
        """Keep a window; slices are pruned as slices.py says. A moment at which nobody waits."""
        slices = self._slices
        if slices is not None:
            self._write(lambda store: add_window(store, window, slices=slices))
            self._write(Store.rest)

    def save(self, episode: Episode) -> None:
        """Keep an episode, replacing what was known of it under its id."""
        self._write(lambda store: save_episode(store, episode, redaction=self._redaction))

    def log(self, entry: AuditEntry) -> None:
        """Append to the audit log; safe from a kill when this returns."""
        audit = self._audit
        if audit is not None:
            self._write(lambda _: audit.append(entry))

    def add_model_call(self, call: ModelCall) -> None:
        """Keep a question to a model and its answer, without secrets."""
        self._write(lambda store: add_model_call(store, call, redaction=self._redaction))

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        """The nearest past episodes, good and bad; what was answered is kept for replay."""
        if self._workload is None:
            return []
        with self._lock:
            found = self._past.recall(observation, self._workload, limit=limit)
        self._write(lambda store: _add_recall(store, observation, found))
        return found

    def add_inputs(self, inputs: DecisionInputs) -> None:
        """Keep what a decision rests on; safe from a kill when this returns."""
        session, first = self._session, self._first_window
        if session is not None:
            self._write(
                lambda store: save_inputs(store, inputs, session=session, first_window=first)
            )

    def next_number(self) -> int:
        """The number that the next episode takes."""
        return self._read(lambda store: next_number(store.db), 0)

    def has_logged(self, call_id: str) -> bool:
        """Whether the audit log has a row of this call, or of this command's being applied."""
        return self._read(lambda store: is_logged(store.db, call_id), False)

    def unfinished(self) -> Unfinished:
        """After a restart: the newest episode if its outcome is missing, and its change with the
        trainer's answer, if that came. An episode with a command but no answer: ask the trainer."""
        nothing: Unfinished = (None, None)
        return self._read(lambda store: unfinished(store.db), nothing)

    def close(self) -> None:
        """End the run; one plain file is left."""
        self._write(self._end)
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = None
            self._past.close()

    def _begin(self, store: Store, workload: Workload) -> None:
        with store.transaction() as db:
            self._session = db.conn.execute(
                "INSERT INTO sessions (run_key, rank, began_at, version, workload)"
                " VALUES (?, ?, ?, ?, ?)",
                (workload.run_key, workload.rank, now(),
                 importlib.metadata.version("rudder-gnn"), workload.model_dump_json()),
            ).lastrowid  # fmt: skip
            self._first_window = next_window(db)
            if self._slices is not None:
                self._slices.begin(first_window=self._first_window)
        self._audit = AuditLog(
            store, run_key=workload.run_key, rank=workload.rank, redaction=self._redaction
        )
        if store.damaged is not None:
            self.log(_set_aside(store.damaged))

    def _end(self, store: Store) -> None:
        with store.transaction() as db:
            db.conn.execute(
                "UPDATE sessions SET ended_at = ? WHERE number = ?", (now(), self._session)
            )

    def _write(self, action: Callable[[Store], object]) -> None:
        with self._lock:
            if self._store is None or self.failure is not None:
                return
            try:
                action(self._store)
            except _FAILURES as error:
                self._fail(f"{self._store.path}: {error}")

    def _read(self, action: Callable[[Store], Answer], otherwise: Answer) -> Answer:
        with self._lock:
            if self._store is None:
                return otherwise
            try:
                return action(self._store)
            except _FAILURES as error:
                complain(f"rudder: {self._store.path}: {error}")
                return otherwise

    def _fail(self, reason: str) -> None:
        self.failure = reason
        complain(
            f"rudder: the journal cannot be written: {reason}\n"
            "  what to do: make room or give write access; until then training goes on and no"
            " further decision is recorded"
        )


def _add_recall(store: Store, observation: Observation, found: list[Recalled]) -> None:
    with store.transaction() as db:
        db.conn.execute(
            "INSERT INTO recalls (step, window, content) VALUES (?, ?, ?)",
            (observation.step, observation.window, _RECALLED.dump_json(found).decode()),
        )


def _set_aside(damaged: Path) -> AuditEntry:
    return AuditEntry(
        kind="note",
        call_id="journal",
        agent="act",
        tool="set_aside",
        step=0,
        result=json.dumps(damaged.name),
    )
