"""The episode that a killed controller left without an outcome."""

from __future__ import annotations

from pydantic import ValidationError
from sqlite_utils import Database

from rudder.memory.records import Episode
from rudder.memory.run.audit import AuditFilter, read_rows
from rudder.memory.run.episodes import unfinished_episode
from rudder.training.settings import Applied


def unfinished(db: Database) -> Episode | None:
    """The newest episode if its outcome is missing, with the trainer's answer if that came."""
    episode = unfinished_episode(db)
    if episode is None or episode.applied is not None:
        return episode
    return episode.model_copy(update={"applied": _applied_by_log(db, episode)})


def _applied_by_log(db: Database, episode: Episode) -> Applied | None:
    """The trainer's answer from the audit log, where the controller died before it saved it."""
    if episode.command_id is None:
        return None
    only = AuditFilter(kind="effect", episode_id=episode.episode_id, outcome="applied")
    for row in read_rows(db, only, last=8):
        answer = _as_applied(row.result)
        if answer is not None and answer.command_id == episode.command_id:
            return answer
    return None


def _as_applied(text: str | None) -> Applied | None:
    try:
        return None if text is None else Applied.model_validate_json(text)
    except ValidationError:
        return None
