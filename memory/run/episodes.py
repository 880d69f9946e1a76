"""Episodes in a run's file: kept while they grow, read back checked."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from sqlite_utils import Database

from rudder.memory.clock import now
from rudder.memory.records import Episode
from rudder.memory.redaction import Redaction
from rudder.memory.store import Key
from rudder.training.errors import DataError

_COLUMNS = (
    "episode_id", "run_key", "rank", "number", "step", "window", "planner", "decision", "result",
    "rows_before", "rows_after", "wait_ms_before", "wait_ms_after", "rows_error", "began_at",
    "saved_at", "content", "checksum",
)  # fmt: skip
_UPSERT = (
    f"INSERT INTO episodes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    " ON CONFLICT (episode_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:] if name != "began_at")
)


def save_episode(db: Database, episode: Episode, *, redaction: Redaction) -> Iterable[Key]:
    """Write an episode in place of what was known under its id, inside the caller's transaction."""
    content = redaction.clean(episode.model_dump_json())
    outcome = episode.outcome
    moment = now()
    measured = ("rows_before", "rows_after", "wait_ms_before", "wait_ms_after", "rows_error")
    values = (
        episode.episode_id,
        episode.run_key,
        episode.rank,
        episode.number,
        episode.observation.step,
        episode.observation.window,
        episode.plan.planner,
        episode.verdict.decision if episode.verdict else None,
        outcome.result if outcome else None,
        *(getattr(outcome, name) if outcome else None for name in measured),
        moment,
        moment,
        content,
        checksum(content),
    )
    db.conn.execute(_UPSERT, values)
    return [("episodes", episode.episode_id)]


def checksum(content: str) -> int:
    """CRC-32; finds what a worn disk did, not what a person did."""
    return zlib.crc32(content.encode())


def read_episodes(db: Database, *, finished: bool = False) -> Iterator[Episode]:
    """Episodes in order, all or those with an outcome; raises DataError for a damaged one."""
    where = "result IS NOT NULL" if finished else "1"
    found = db.conn.execute(
        "SELECT episode_id, content, checksum FROM episodes"
        f" WHERE {where} ORDER BY number, began_at"
    )
    return (parse_episode(*row) for row in found)


def find_episode(db: Database, name: str) -> Episode | None:
    """The episode with this id, or the only one whose id begins so; None: no such one."""
    found = db.conn.execute(
        "SELECT episode_id, content, checksum FROM episodes"
        " WHERE episode_id = ? OR substr(episode_id, 1, ?) = ? ORDER BY episode_id <> ? LIMIT 2",
        [name, len(name), name, name],
    ).fetchall()
    exact = [row for row in found if row[0] == name]
    if len(found) > 1 and not exact:
        raise DataError(
            f"several episodes begin with {name}: {found[0][0]}, {found[1][0]}",
            remedy="give more of the id",
        )
    return parse_episode(*found[0]) if found else None


def unfinished_episode(db: Database) -> Episode | None:
    """The newest episode, where its outcome is missing."""
    found = db.conn.execute(
        "SELECT episode_id, content, checksum, result FROM episodes"
        " ORDER BY number DESC, began_at DESC LIMIT 1"
    ).fetchone()
    return None if found is None or found[3] is not None else parse_episode(*found[:3])


def next_number(db: Database) -> int:
    """The number of the next episode: one more than any, 0 for the first."""
    return int(db.conn.execute("SELECT coalesce(max(number) + 1, 0) FROM episodes").fetchone()[0])


def parse_episode(episode_id: str, content: str, crc: int) -> Episode:
    """Stored text as an episode; raises DataError where it is damaged."""
    try:
        if checksum(content) != crc:
            raise ValueError("its checksum does not fit")
        return Episode.model_validate_json(content)
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"episode {episode_id} is damaged: {str(error).splitlines()[0]}",
            remedy="it cannot be used; the others can",
        ) from None
