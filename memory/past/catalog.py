"""The memory, read: lists, single episodes, and how much of what there is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from rudder.memory.migrations import EXPERIENCE
from rudder.memory.past.past_episode import PastEpisode
from rudder.memory.run.audit import Head
from rudder.memory.run.episodes import parse_episode
from rudder.memory.store import open_reader, unreadable
from rudder.training.errors import DataError
from rudder.training.workload import Workload

_FROM = """
SELECT workloads.origin, episodes.ended_at, workloads.content,
       episodes.episode_id, episodes.content, episodes.checksum
FROM episodes JOIN workloads ON workloads.number = episodes.workload
"""
_LINES = """
SELECT episodes.episode_id, origin, episodes.trusted, run_key, rank,
       json_extract(workloads.content, '$.policy'), planner, result,
       rows_before, rows_after, wait_ms_before, wait_ms_after, ended_at
FROM episodes JOIN workloads ON workloads.number = episodes.workload
"""


class Line(BaseModel):
    """An episode in a list; rows and waits per step."""

    model_config = ConfigDict(frozen=True)

    episode_id: str
    origin: str
    trusted: bool
    run_key: str
    rank: int
    policy: str
    planner: str
    result: str
    rows_before: float | None
    rows_after: float | None
    wait_ms_before: float | None
    wait_ms_after: float | None
    ended_at: str


class OriginStats(BaseModel):
    """Episodes of one origin."""

    model_config = ConfigDict(frozen=True)

    origin: str
    is_own: bool
    runs: int
    episodes: int
    trusted: int
    confirmed: int
    reverted: int


class Catalog:
    """A context manager, which closes the file. Methods raise DataError for what is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_reader(path, migrations=EXPERIENCE)

    def lines(
        self,
        *,
        result: str | None = None,
        run_key: str | None = None,
        origin: str | None = None,
        limit: int = 20,
    ) -> list[Line]:
        """The newest first."""
        asked = {"result": result, "run_key": run_key, "origin": origin}
        given = {name: value for name, value in asked.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1"
        rows = self._query(
            f"{_LINES} WHERE {where} ORDER BY episodes.number DESC LIMIT ?", *given.values(), limit
        )
        names = tuple(Line.model_fields)
        return [Line.model_validate(dict(zip(names, row, strict=True))) for row in rows]

    def episodes(self, *, origin: str | None = None) -> Iterator[PastEpisode]:
        """All of one origin or of every one, oldest first."""
        where, values = ("1", ()) if origin is None else ("workloads.origin = ?", (origin,))
        rows = self._query(f"{_FROM} WHERE {where} ORDER BY episodes.number", *values)
        return (self._past(row) for row in rows)

    def find(self, name: str) -> list[PastEpisode]:
        """Those whose id is `name`, or else begins with it; at most two."""
        rows = self._query(f"{_FROM} WHERE episode_id = ? LIMIT 2", name) or self._query(
            f"{_FROM} WHERE episode_id >= ? AND episode_id < ? LIMIT 2", name, name + "\U0010ffff"
        )
        return [self._past(row) for row in rows]

    def audit_heads(self, *, run_key: str, rank: int) -> tuple[Head, ...]:
        """Where the audit log of a run was when it was merged."""
        rows = self._query(
            "SELECT audit_number, audit_hash FROM workloads"
            " WHERE run_key = ? AND rank = ? AND audit_number IS NOT NULL", run_key, rank,
        )  # fmt: skip
        return tuple(Head(int(str(number)), str(hash_)) for number, hash_ in rows)

    def stats(self) -> list[OriginStats]:
        """Per origin, its own first."""
        rows = self._query(
            "SELECT origins.origin, is_own, count(DISTINCT run_key), count(episodes.number),"
            " coalesce(sum(trusted), 0), coalesce(sum(result = 'confirmed'), 0),"
            " coalesce(sum(result = 'reverted'), 0)"
            " FROM origins LEFT JOIN workloads ON workloads.origin = origins.origin"
            " LEFT JOIN episodes ON episodes.workload = workloads.number"
            " GROUP BY origins.origin ORDER BY is_own DESC, origins.origin"
        )
        names = tuple(OriginStats.model_fields)
        return [OriginStats.model_validate(dict(zip(names, row, strict=True))) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._db.conn.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise unreadable(self.path, error) from None

    def _past(self, row: tuple[object, ...]) -> PastEpisode:
        origin, ended_at, workload, episode_id, content, crc = row
        try:
            return PastEpisode(
                origin=str(origin),
                ended_at=str(ended_at),
                workload=Workload.model_validate_json(str(workload)),
                episode=parse_episode(str(episode_id), str(content), int(str(crc))),
            )
        except ValidationError as error:
            raise DataError(
                f"the workload of {episode_id} is damaged: {str(error).splitlines()[0]}",
                remedy="prune it",
            ) from None
