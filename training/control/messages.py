"""What is said at a trainer's control port: one JSON object a line, in both directions.

A client sends a `Command` (settings.py) or `Subscribe`; it is answered with `Applied` or
`Rejected`, and once subscribed it is sent every finished `Window`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rudder.training.settings import Applied, Command

MAX_LINE_BYTES = 4 * 2**20
"""Room for the 100,000 ids of the largest fetch targets, and a bound on what a client can send."""
_MAX_REASON = 300


class Subscribe(BaseModel):
    """A client wants every metrics window from now on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    subscribe: Literal["windows"]


class Rejected(BaseModel):
    """A line that never reached the trainer, and why; it changed nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["rejected"] = "rejected"
    command_id: str | None
    rank: int
    reason: str


class InvalidRequestError(ValueError):
    """A line is not a request; the message says why, for the client."""


_REQUEST: TypeAdapter[Command | Subscribe] = TypeAdapter(Command | Subscribe)
_ANSWER: TypeAdapter[Applied | Rejected] = TypeAdapter(Applied | Rejected)


def read_request(line: bytes) -> Command | Subscribe:
    """Read what a client sent; raises InvalidRequestError."""
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        raise InvalidRequestError(_reason(error)) from None


def read_answer(line: bytes) -> Applied | Rejected | None:
    """Read what a port sent; None for a window or anything else."""
    try:
        return _ANSWER.validate_json(line)
    except ValidationError:
        return None


def to_line(message: BaseModel) -> bytes:
    """The message as one line."""
    return message.model_dump_json().encode() + b"\n"


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return (f"{name}: {first['msg']}" if name else first["msg"])[:_MAX_REASON]
