"""`memory.db`: the finished episodes of all runs.

Written by one process at a time, when a run has ended; controllers read it through recall.py.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from rudder.memory.database import Database
from rudder.memory.migrations import EXPERIENCE
from rudder.memory.past.circumstances import circumstances, signature
from rudder.memory.records import Episode
from rudder.memory.run.audit import Head
from rudder.memory.run.run_reader import LogOrigin, RunReader
from rudder.memory.run.tables import crc32_of, parse_episode, result_columns
from rudder.memory.run.verify import unlike
from rudder.memory.store import Reader, Store, insert, now, parse, parse_row, rows
from rudder.training.buffer.hot_set import HotSet
from rudder.training.errors import ConfigError
from rudder.training.settings import FrozenExact
from rudder.training.workload import Workload

_WAIT_S = 30.0
_MEASURED = ("confirmed", "reverted", "kept")
_JOINED = "FROM episodes JOIN workloads ON workloads.number = episodes.workload"
PAST = f"""
SELECT workloads.origin, ended_at, workloads.content AS workload,
       episodes.number, episode_id, episodes.content, checksum
{_JOINED}
"""
"""Query for the rows of episodes, to which a condition is added."""
_LINES = f"""
SELECT episode_id, origin, trusted, run_key, rank,
       workloads.content AS workload, planner, result,
       rows_before, rows_after, wait_ms_before, wait_ms_after, ended_at
{_JOINED}
"""
_STATS = """
SELECT origins.origin, is_own, count(DISTINCT run_key) AS runs,
       count(episodes.number) AS episodes, coalesce(sum(trusted), 0) AS trusted,
       coalesce(sum(result = 'confirmed'), 0) AS confirmed,
       coalesce(sum(result = 'reverted'), 0) AS reverted
FROM origins LEFT JOIN workloads ON workloads.origin = origins.origin
             LEFT JOIN episodes ON episodes.workload = workloads.number
GROUP BY origins.origin ORDER BY is_own DESC, origins.origin
"""


class PastEpisode(FrozenExact):
    """A finished episode with what is needed to use it elsewhere; one line of an export.

    origin: the memory that saw it first; ended_at: UTC, ISO 8601.
    """

    format: Literal[1] = 1
    origin: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    ended_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    workload: Workload
    episode: Episode


class EpisodeLine(FrozenExact):
    """An episode in a list; rows and waits per step."""

    episode_id: str
    origin: str
    trusted: bool
    run_key: str
    rank: int
    workload: Workload
    planner: str
    result: str
    rows_before: float | None
    rows_after: float | None
    wait_ms_before: float | None
    wait_ms_after: float | None
    ended_at: str


class OriginStats(FrozenExact):
    """Episodes of one origin."""

    origin: str
    is_own: bool
    runs: int
    episodes: int
    trusted: int
    confirmed: int
    reverted: int


@dataclass(frozen=True)
class Added:
    """What came of adding episodes: new ones, those that were known, and files left out."""

    new: int = 0
    known: int = 0
    left_out: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.known + other.known, self.left_out + other.left_out)


class Catalog(Reader):
    """The reading end of a memory; methods raise as those of Reader do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, migrations=EXPERIENCE)

    def lines(
        self,
        *,
        result: str | None = None,
        run_key: str | None = None,
        origin: str | None = None,
        limit: int = 20,
    ) -> list[EpisodeLine]:
        """The newest first."""
        asked = {"result = ?": result, "instr(run_key, ?) = 1": run_key, "origin = ?": origin}
        given = {term: value for term, value in asked.items() if value is not None}
        where = " AND ".join(given) or "1"
        sql = f"{_LINES} WHERE {where} ORDER BY episodes.number DESC LIMIT ?"
        return [
            parse_row(EpisodeLine, row | {"workload": _workload(row)}, what=row["episode_id"])
            for row in self.rows(sql, *given.values(), limit)
        ]

    def episodes(
        self, *, origin: str | None = None, only_trusted: bool = False
    ) -> Iterator[PastEpisode]:
        """Of one origin or of every one, all or the trusted ones, oldest first."""
        where, values = ("1", ()) if origin is None else ("workloads.origin = ?", (origin,))
        where += " AND episodes.trusted" if only_trusted else ""
        found = self.rows(f"{PAST} WHERE {where} ORDER BY episodes.number", *values)
        return (past_episode(row) for row in found)

    def find(self, name: str) -> list[PastEpisode]:
        """Those whose id is `name`, or else begins with it; at most two."""
        found = self.rows(f"{PAST} WHERE episode_id = ? LIMIT 2", name) or self.rows(
            f"{PAST} WHERE episode_id >= ? AND episode_id < ? LIMIT 2", name, name + "\U0010ffff"
        )
        return [past_episode(row) for row in found]

    def head(self, origin: LogOrigin) -> Head | None:
        """Where a rank's audit log ended when it was last seen; None: it never was."""
        sql = "SELECT number, hash FROM heads WHERE run_key = ? AND rank = ?"
        found = self.rows(sql, origin.run_key, origin.rank)
        return Head(**found[0], keeper=str(self.path)) if found else None

    def stats(self) -> list[OriginStats]:
        """Per origin, its own first."""
        found = self.rows(_STATS)
        return [parse_row(OriginStats, row, what=f"origin {row['origin']}") for row in found]


def past_episode(row: dict[str, Any]) -> PastEpisode:
    """A row of PAST; raises DataError where it is damaged."""
    values = {
        "origin": row["origin"],
        "ended_at": row["ended_at"],
        "workload": _workload(row),
        "episode": parse_episode(row["episode_id"], row["content"], row["checksum"]),
    }
    return parse_row(PastEpisode, values, what=row["episode_id"])


def _workload(row: dict[str, Any]) -> Workload:
    return parse(Workload, row["workload"], what=f"the workload of {row['episode_id']}")


class Experience:
    """The writing end of a memory; a context manager, which closes it. Methods raise as
    Store.open does."""

    def __init__(self, path: Path, *, replaces_damaged: bool = False) -> None:
        """Open or create; waits half a minute for another writer.

        replaces_damaged: whether a damaged file is moved away and a new one begun, or
        DataError raised.
        """
        self._store = Store.open(
            path, migrations=EXPERIENCE, wait_s=_WAIT_S, replaces_damaged=replaces_damaged
        )
        self.origin = _own_origin(self._store)

    def add(self, episodes: Iterable[PastEpisode], *, trusted: bool) -> Added:
        """Add finished episodes; those that are there already are left as they are.

        trusted: whether recall may use them.
        """
        new = known = 0
        with self._store.transaction() as db:
            for past in episodes:
                workload = _add_workload(db, past)
                if _add_episode(db, past, workload=workload, trusted=trusted):
                    new += 1
                else:
                    known += 1
        return Added(new, known)

    def keep_head(self, reader: RunReader) -> None:
        """Keep where a rank's log ends now, unless it is not the log that was seen before: then
        `rudder audit verify` is to find that."""
        if (origin := reader.origin()) is None:
            return
        key, end = (origin.run_key, origin.rank), reader.audit_head()
        with self._store.transaction() as db:
            where = "WHERE run_key = ? AND rank = ?"
            known = db.conn.execute(f"SELECT number, hash FROM heads {where}", key).fetchone()
            if known and unlike(reader.db, [Head(*known)]) is not None:
                return
            db.conn.execute(f"DELETE FROM heads {where}", key)
            insert(db, "heads", {**asdict(origin), "number": end.number, "hash": end.hash})

    def keep_hot_set(self, hot: HotSet, workload: Workload) -> None:
        """Keep it for the next run on this work, in place of what an earlier run left."""
        values = {
            "signature": signature(workload),
            "added_at": now(),
            "nodes": zlib.compress(hot.nodes.astype("<i8").tobytes()),
            "uses": zlib.compress(hot.uses.astype("<f4").tobytes()),
        }
        with self._store.transaction() as db:
            db.conn.execute("DELETE FROM hot_sets WHERE signature = ?", [values["signature"]])
            insert(db, "hot_sets", values)

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
            sql = f"{PAST} WHERE workloads.origin = ? AND NOT trusted"
            found = list(rows(db, sql, origin))
            for row in found:
                db.conn.execute("UPDATE episodes SET trusted = 1 WHERE number = ?", [row["number"]])
                _add_key(db, row["number"], past_episode(row))
        return len(found)

    def prune(self, *, keep: int, origin: str | None = None) -> int:
        """Drop all but the `keep` newest episodes, of one origin or of all; returns how many."""
        where = "1" if origin is None else "origin = ?"
        drop = (
            f"SELECT episodes.number {_JOINED} WHERE {where}"
            " ORDER BY episodes.number DESC LIMIT -1 OFFSET ?"
        )
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


def _own_origin(store: Store) -> str:
    found = store.db.conn.execute("SELECT origin FROM origins WHERE is_own").fetchone()
    if found is not None:
        return str(found[0])
    origin = f"memory-{secrets.token_hex(4)}"
    with store.transaction() as db:
        db.conn.execute("INSERT INTO origins VALUES (?, 1, ?)", [origin, now()])
    return origin


def _add_workload(db: Database, past: PastEpisode) -> int:
    """The number of the episode's workload."""
    key = (past.origin, past.episode.run_key, past.episode.rank)
    origin = {"origin": past.origin, "is_own": 0, "added_at": now()}
    insert(db, "origins", origin, on_conflict="DO NOTHING")
    values = {
        "origin": past.origin,
        "run_key": past.episode.run_key,
        "rank": past.episode.rank,
        "signature": signature(past.workload),
        "content": past.workload.model_dump_json(),
    }
    insert(db, "workloads", values, on_conflict="DO NOTHING")
    where = "WHERE origin = ? AND run_key = ? AND rank = ?"
    return int(db.conn.execute(f"SELECT number FROM workloads {where}", key).fetchone()[0])


def _add_episode(db: Database, past: PastEpisode, *, workload: int, trusted: bool) -> bool:
    """Whether it is new; an episode without an outcome is not added."""
    if past.episode.outcome is None:
        return False
    content = past.episode.model_dump_json()
    values = {
        "workload": workload,
        "episode_id": past.episode.episode_id,
        "planner": past.episode.plan.planner,
        **result_columns(past.episode),
        "ended_at": past.ended_at,
        "trusted": int(trusted),
        "content": content,
        "checksum": crc32_of(content),
    }
    number = insert(db, "episodes", values, on_conflict="DO NOTHING")
    if number is not None and trusted:
        _add_key(db, number, past)
    return number is not None


def _add_key(db: Database, number: int, past: PastEpisode) -> None:
    """Make an episode findable by recall, if its effect was measured."""
    outcome = past.episode.outcome
    if outcome is None or outcome.result not in _MEASURED:
        return
    values = {
        "number": number,
        "policy": past.workload.policy,
        "result": outcome.result,
        "signature": signature(past.workload),
        "wait_ms_after": outcome.wait_ms_after,
        "vector": circumstances(past.episode.observation, past.workload).tobytes(),
    }
    insert(db, "recall_keys", values)
