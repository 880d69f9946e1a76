"""What a run's file holds beside the audit log and access slices: rows written and read checked.

Writers work inside the caller's transaction, and return the keys of the rows that they wrote.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import TypeAdapter

from rudder.memory.database import Database
from rudder.memory.journal import DecisionInputs, ModelCall, Recalled
from rudder.memory.records import Episode, Observation
from rudder.memory.run.audit import AuditFilter, read_rows
from rudder.memory.run.slices import Slices
from rudder.memory.store import Key, Redaction, damaged, insert, now, parse
from rudder.training.metrics import Window
from rudder.training.settings import Applied
from rudder.training.workload import Workload

RECALLED = TypeAdapter(list[Recalled])


def add_session(db: Database, workload: Workload, *, version: str) -> int:
    """A controller begins or goes on; returns the number of its session."""
    values = {"run_key": workload.run_key, "rank": workload.rank, "began_at": now()}
    content = {"version": version, "workload": workload.model_dump_json()}
    return _add(db, "sessions", {**values, **content})


def add_window(db: Database, window: Window, *, slices: Slices) -> Iterable[Key]:
    """Write a window and its access slice; the keys include slices that this pruned."""
    number = _add(
        db,
        "windows",
        {
            "window": window.index,
            "epoch": window.epoch,
            "first_step": window.first_step,
            "num_steps": window.num_steps,
            "capacity_rows": window.settings.capacity_rows,
            "remote_rows": window.rows.remote_rows,
            "hits": window.rows.hits,
            "rows_fetched": window.rows.rows_fetched.total,
            "exposed_wait_s": window.seconds.exposed_wait,
            "wall_s": window.wall_seconds,
            "content": window.model_dump_json(exclude={"accesses"}),
        },
    )
    yield "windows", number
    if window.accesses is not None:
        yield from slices.add(db, window.accesses, number=number, window=window.index)


def next_window(db: Database) -> int:
    """The number that the next row of the table `windows` takes."""
    return int(db.conn.execute("SELECT coalesce(max(number) + 1, 1) FROM windows").fetchone()[0])


def save_episode(db: Database, episode: Episode, *, redaction: Redaction) -> Iterable[Key]:
    """Write an episode in place of what was known under its id."""
    content = redaction.clean(episode.model_dump_json())
    moment = now()
    values = {
        "episode_id": episode.episode_id,
        "run_key": episode.run_key,
        "rank": episode.rank,
        "number": episode.number,
        "step": episode.observation.step,
        "window": episode.observation.window,
        "planner": episode.plan.planner,
        "decision": episode.verdict.decision if episode.verdict else None,
        **result_columns(episode),
        "rows_error": episode.outcome.rows_error if episode.outcome else None,
        "began_at": moment,
        "saved_at": moment,
        "content": content,
        "checksum": crc32_of(content),
    }
    replaced = ", ".join(f"{name} = excluded.{name}" for name in values if name != "began_at")
    insert(db, "episodes", values, on_conflict=f"(episode_id) DO UPDATE SET {replaced}")
    return [("episodes", episode.episode_id)]


def result_columns(episode: Episode) -> dict[str, str | float | None]:
    """Columns of the outcome that run files and memories have in common."""
    names = ("result", "rows_before", "rows_after", "wait_ms_before", "wait_ms_after")
    return {name: getattr(episode.outcome, name, None) for name in names}


def crc32_of(content: str) -> int:
    """CRC-32; finds what a worn disk did, not what a person did."""
    return zlib.crc32(content.encode())


def parse_episode(episode_id: str, content: str, crc: int) -> Episode:
    """Stored text as an episode; raises DataError where it is damaged."""
    what = f"episode {episode_id}"
    if crc32_of(content) != crc:
        raise damaged(what, "its checksum does not fit")
    return parse(Episode, content, what=what)


def unfinished_episode(db: Database) -> Episode | None:
    """The newest episode if its outcome is missing, with the trainer's answer if that came.

    Raises DataError where it is damaged.
    """
    found = db.conn.execute(
        "SELECT result, episode_id, content, checksum FROM episodes"
        " ORDER BY number DESC, began_at DESC LIMIT 1"
    ).fetchone()
    if found is None or found[0] is not None:
        return None
    episode = parse_episode(*found[1:])
    if episode.applied is not None or episode.command_id is None:
        return episode
    # The controller may have died after it logged the answer, and before it saved the episode.
    only = AuditFilter(kind="effect", episode_id=episode.episode_id, outcome="applied")
    logged = [row.result for row in read_rows(db, only, last=8) if row.result]
    answers = [parse(Applied, each, what="the trainer's answer in the log") for each in logged]
    mine = [each for each in answers if each.command_id == episode.command_id]
    return episode.model_copy(update={"applied": mine[0] if mine else None})


def add_model_call(db: Database, call: ModelCall, *, redaction: Redaction) -> Iterable[Key]:
    """Write a question to a model and its answer, without secrets."""
    values = {"time": now(), **redaction.clean_all(call.model_dump())}
    return [("model_calls", _add(db, "model_calls", values))]


def save_inputs(
    db: Database, inputs: DecisionInputs, *, session: int, first_window: int
) -> Iterable[Key]:
    """Write what a decision rests on in place of what was known so far."""
    insert(
        db,
        "decision_inputs",
        {
            "episode_id": inputs.episode_id,
            "session": session,
            "first_window": first_window,
            "content": inputs.model_dump_json(),
        },
        on_conflict="(episode_id) DO UPDATE SET content = excluded.content",
    )
    return [("decision_inputs", inputs.episode_id)]


def add_recall(db: Database, observation: Observation, found: Sequence[Recalled]) -> Iterable[Key]:
    """Write what recall answered."""
    content = RECALLED.dump_json(list(found)).decode()
    at = {"step": observation.step, "window": observation.window}
    return [("recalls", _add(db, "recalls", {**at, "content": content}))]


def _add(db: Database, table: str, values: Mapping[str, object]) -> int:
    number = insert(db, table, values)
    assert number is not None  # nothing is in its way
    return number
