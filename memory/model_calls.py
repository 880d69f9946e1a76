"""Questions to language models and their answers, for replay and for the bill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlite_utils import Database

from rudder.memory.clock import now
from rudder.memory.redaction import Redaction
from rudder.memory.store import Key


class ModelCall(BaseModel):
    """One question; messages and answer are JSON as sent and as it came, without secrets.

    answer: None where none came; tokens_source: who counted the tokens.
    """

    model_config = ConfigDict(frozen=True)

    call_id: str
    agent: str
    step: int
    model: str
    messages: str
    answer: str | None
    latency_ms: float
    episode_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_source: Literal["server", "estimated", "missing"] = "missing"
    error_type: str | None = None


_COLUMNS = tuple(ModelCall.model_fields)
_INSERT = (
    f"INSERT INTO model_calls (time, {', '.join(_COLUMNS)})"
    f" VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
)


def add_model_call(db: Database, call: ModelCall, *, redaction: Redaction) -> Iterable[Key]:
    """Write a call without secrets, inside the caller's transaction."""
    values = call.model_dump()
    cleaned = {
        name: redaction.clean(value) if isinstance(value, str) else value
        for name, value in values.items()
    }
    number = db.conn.execute(_INSERT, [now(), *[cleaned[name] for name in _COLUMNS]]).lastrowid
    assert number is not None
    return [("model_calls", number)]


def read_model_calls(db: Database, *, episode_id: str | None = None) -> Iterator[ModelCall]:
    """Calls in order, of one episode or of all."""
    where = "1" if episode_id is None else "episode_id = ?"
    found = db.conn.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM model_calls WHERE {where} ORDER BY number",
        [] if episode_id is None else [episode_id],
    )
    return (ModelCall(**dict(zip(_COLUMNS, row, strict=True))) for row in found)
