"""`memory.db`: the finished episodes of all runs. Written by one process at a time, when a run has
ended; controllers read it through recall.py."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlite_utils import Database

from rudder.memory.clock import now
from rudder.memory.migrations import EXPERIENCE
from rudder.memory.past.circumstances import circumstances, signature
from rudder.memory.past.past_episode import PastEpisode
from rudder.memory.records import Episode
from rudder.memory.run.audit import Head
from rudder.memory.run.episodes import checksum, parse_episode
from rudder.memory.store import Store
from rudder.training.errors import ConfigError
from rudder.training.workload import Workload

_WAIT_S = 30.0
_MEASURED = ("confirmed", "reverted", "kept")
_EPISODE_COLUMNS = (
    "workload, episode_id, planner, result, rows_before, rows_after, wait_ms_before,"
    " wait_ms_after, ended_at, trusted, content, checksum"
)


@dataclass(frozen=True)
class Added:
    """What came of adding episodes: new ones, those that were known, and files left out."""

    new: int = 0
    known: int = 0
    left_out: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.known + other.known, self.left_out + other.left_out)


class Experience:
    """The writing end of a memory; a context manager, which closes it. Methods raise as
    Store.open does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.origin = _own_origin(store)

    @classmethod
    def open(cls, path: Path, *, sets_aside: bool = False) -> Self:
        """Open or create; waits half a minute for another writer.

        sets_aside: whether a damaged file makes room for a new one, or raises DataError.
        """
        return cls(Store.open(path, migrations=EXPERIENCE, wait_s=_WAIT_S, sets_aside=sets_aside))

    def add(
        self, episodes: Iterable[PastEpisode], *, trusted: bool, head: Head | None = None
    ) -> Added:
        """Add finished episodes; those that are there already are left as they are.

        trusted: whether recall may use them; head: where the audit log of their run ended.
        """
        new = known = 0
        with self._store.transaction() as db:
            for past in episodes:
                workload = _add_workload(db, past, head=head)
                if _add_episode(db, past, workload=workload, trusted=trusted):
                    new += 1
                else:
                    known += 1
        return Added(new, known)

    def trust(self, origin: str) -> int:
        """Let recall use what was imported from an origin so far; returns how many episodes.

        Raises ConfigError for an origin that is not there.
        """
        with self._store.transaction() as db:
            origins = [row[0] for row in db.conn.execute("SELECT origin FROM origins")]
            if origin not in origins:
                raise ConfigError.for_field(
                    "origin", value=origin, allowed=", ".join(origins) or "none is there yet"
                )
            found = db.conn.execute(_UNTRUSTED, [origin]).fetchall()
            for number, workload, *stored in found:
                db.conn.execute("UPDATE episodes SET trusted = 1 WHERE number = ?", [number])
                known = Workload.model_validate_json(workload)
                _add_key(db, number, parse_episode(*stored), workload=known)
        return len(found)

    def prune(self, *, keep: int, origin: str | None = None) -> int:
        """Drop all but the `keep` newest episodes, of one origin or of all; returns how many."""
        where = (
            "1" if origin is None else "workload IN (SELECT number FROM workloads WHERE origin = ?)"
        )
        drop = f"SELECT number FROM episodes WHERE {where} ORDER BY number DESC LIMIT -1 OFFSET ?"
        values = [keep] if origin is None else [origin, keep]
        with self._store.transaction() as db:
            db.conn.execute(f"DELETE FROM recall_keys WHERE number IN ({drop})", values)
            dropped = db.conn.execute(f"DELETE FROM episodes WHERE number IN ({drop})", values)
            count = dropped.rowcount
        self._store.db.execute("VACUUM")
        return count

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_UNTRUSTED = """
SELECT episodes.number, workloads.content, episodes.episode_id, episodes.content, episodes.checksum
FROM episodes JOIN workloads ON workloads.number = episodes.workload
WHERE workloads.origin = ? AND NOT episodes.trusted
"""


def _own_origin(store: Store) -> str:
    found = store.db.conn.execute("SELECT origin FROM origins WHERE is_own").fetchone()
    if found is not None:
        return str(found[0])
    origin = f"memory-{secrets.token_hex(4)}"
    with store.transaction() as db:
        db.conn.execute("INSERT INTO origins VALUES (?, 1, ?)", [origin, now()])
    return origin


def _add_workload(db: Database, past: PastEpisode, *, head: Head | None) -> int:
    """The number of the episode's workload, and where the audit log of its run ends now."""
    work = past.workload
    key = (past.origin, past.episode.run_key, past.episode.rank)
    db.conn.execute("INSERT OR IGNORE INTO origins VALUES (?, 0, ?)", [past.origin, now()])
    db.conn.execute(
        "INSERT OR IGNORE INTO workloads (origin, run_key, rank, signature, content)"
        " VALUES (?, ?, ?, ?, ?)",
        (*key, signature(work), work.model_dump_json()),
    )
    if head is not None:
        db.conn.execute(
            "UPDATE workloads SET audit_number = ?, audit_hash = ?"
            " WHERE origin = ? AND run_key = ? AND rank = ? AND coalesce(audit_number, 0) < ?",
            (head.number, head.hash, *key, head.number),
        )
    found = db.conn.execute(
        "SELECT number FROM workloads WHERE origin = ? AND run_key = ? AND rank = ?", key
    )
    return int(found.fetchone()[0])


def _add_episode(db: Database, past: PastEpisode, *, workload: int, trusted: bool) -> bool:
    """Whether it is new; an episode without an outcome is not added."""
    episode, outcome = past.episode, past.episode.outcome
    if outcome is None:
        return False
    content = episode.model_dump_json()
    cursor = db.conn.execute(
        f"INSERT OR IGNORE INTO episodes ({_EPISODE_COLUMNS}) VALUES ({', '.join('?' * 12)})",
        (
            workload, episode.episode_id, episode.plan.planner, outcome.result,
            outcome.rows_before, outcome.rows_after, outcome.wait_ms_before,
            outcome.wait_ms_after, past.ended_at, int(trusted), content, checksum(content),
        ),
    )  # fmt: skip
    if not cursor.rowcount or cursor.lastrowid is None:
        return False
    if trusted:
        _add_key(db, cursor.lastrowid, episode, workload=past.workload)
    return True


def _add_key(db: Database, number: int, episode: Episode, *, workload: Workload) -> None:
    """Make an episode findable by recall, if it has something to say."""
    outcome = episode.outcome
    if outcome is None or outcome.result not in _MEASURED:
        return
    vector = circumstances(episode.observation, workload)
    db.conn.execute(
        "INSERT INTO recall_keys VALUES (?, ?, ?, ?, ?, ?)",
        (number, workload.policy, outcome.result, signature(workload), outcome.wait_ms_after,
         vector.tobytes()),
    )  # fmt: skip
