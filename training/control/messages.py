"""What is said at a trainer's control port: one JSON object a line, in both directions.

A client sends a `Command` (settings.py), `Subscribe`, `Attention`, `Heartbeat` or `TurnRequest`. A
command is answered with `Applied` or `CommandRejected`, a turn with `TurnAnswer`. A subscriber is
sent a `WorkloadMessage`, the `SteeringState`, the `Intervention`s so far and then every finished
`Window`, and the state and interventions again whenever there are new ones. A heartbeat with a head
is answered with the next rank's `LogHead`, once that is known. `send_command` is the client of one
command.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from rudder.training.control import unix_socket
from rudder.training.errors import RunError
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings, Change, Command, Frozen, Origin
from rudder.training.turn import RankTurn
from rudder.training.workload import Workload

MAX_LINE_BYTES = 4 * 2**20
"""Room for the 100,000 ids of the largest fetch targets, and a bound on what a client can send."""
_MAX_REASON = 300
WINDOW_STEPS = 16
"""Steps of a window, unless its subscriber asks for longer ones."""
MAX_WINDOW_STEPS = 1024
MAX_WINDOW_S = 10.0
"""A window that has taken longer ends with WINDOW_STEPS or more, however many its subscriber asked
for while steps were faster."""
Tool = Literal["set_buffer", "steer_off", "steer_on", "fall_back", "apply_change", "resume"]
"""What may be done to a trainer without its controller, as the audit log names it."""


class _Message(Frozen, extra="forbid"):
    """Unknown fields are refused."""


class Subscribe(_Message):
    """A client wants every metrics window from now on."""

    subscribe: Literal["windows"]


class Attention(_Message):
    """What a subscriber wants to see from now on.

    window_steps: of a window, at least; accesses: whether windows have sampled accesses, which
    take the trainer's time.
    """

    window_steps: int = Field(ge=1, le=MAX_WINDOW_STEPS, strict=True)
    accesses: bool = Field(strict=True)


class LogHead(_Message):
    """The last row of a rank's audit log at some moment: its number, and its SHA-256."""

    rank: int = Field(ge=0, strict=True)
    number: int = Field(ge=1, strict=True)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class Heartbeat(_Message):
    """A controller is alive; it counts its heartbeats.

    head: where its log ends, now and then; answered with the `LogHead` of the next rank.
    """

    heartbeat: int = Field(ge=0, strict=True)
    head: LogHead | None = None


class TurnRequest(_Message):
    """A controller wants a turn to be the job's newest, in place of `instead_of` (None: the first
    one)."""

    turn: RankTurn
    instead_of: RankTurn | None


class TurnAnswer(_Message):
    """The job's newest turn after a request; None: there is no store to agree over."""

    kind: Literal["turn"] = "turn"
    turn: RankTurn | None


class WorkloadMessage(_Message):
    """The first line that a subscriber is sent."""

    workload: Workload


class SteeringState(_Message):
    """Whether controllers are obeyed, and the settings in force.

    step: the first batch not yet planned; defaults: the settings that the trainer falls back on,
    those it began with and what a user has set since; reason: why steering is off.
    """

    kind: Literal["steering"] = "steering"
    is_on: bool
    rank: int
    step: int
    settings: BufferSettings
    defaults: BufferSettings
    reason: str | None = None


class Intervention(_Message):
    """Something that was done to a trainer and that its controller may not know, for the audit log.

    tool: `set_buffer` a user, or a program for one, changed settings, `steer_off` and `steer_on` a
    user switched steering, `fall_back` the trainer went back to its defaults, `apply_change` a
    controller changed settings, and may have been killed before it recorded that, `resume` the run
    goes on from a checkpoint; change: what was asked for, without ids of fetch targets; applied:
    the result, None for the switch. A new subscriber is sent earlier ones, too; intervention_id
    tells them apart.
    """

    kind: Literal["intervention"] = "intervention"
    intervention_id: str
    tool: Tool
    step: int
    change: Change = Change()
    applied: Applied | None = None
    origin: Origin = "user"

    @property
    def agent(self) -> Literal["user", "mcp", "trainer"]:
        """Who did it."""
        if self.tool in ("fall_back", "apply_change"):
            return "trainer"
        return "mcp" if self.origin == "mcp" else "user"


class CommandRejected(_Message):
    """A line that never reached the trainer, and why; it changed nothing."""

    kind: Literal["rejected"] = "rejected"
    command_id: str | None
    rank: int
    reason: str


class InvalidRequestError(ValueError):
    """A line is not a request; the message says why, for the client."""


FULL_ATTENTION = Attention(window_steps=WINDOW_STEPS, accesses=True)
"""Of a subscriber that has not said otherwise."""

Request = Command | Subscribe | Attention | Heartbeat | TurnRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


def read_request(line: bytes) -> Request:
    """Read what a client sent; raises InvalidRequestError."""
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        raise InvalidRequestError(_reason(error)) from None


def to_line(message: BaseModel) -> bytes:
    """The message as one line."""
    return message.model_dump_json().encode() + b"\n"


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return (f"{name}: {first['msg']}" if name else first["msg"])[:_MAX_REASON]


Message = (
    Applied | CommandRejected | TurnAnswer | Workload | Window | SteeringState | Intervention
    | LogHead
)  # fmt: skip
_Sent = (
    Applied | CommandRejected | TurnAnswer | WorkloadMessage | SteeringState | Intervention
    | Window | LogHead
)  # fmt: skip
_LINE: TypeAdapter[_Sent] = TypeAdapter(Annotated[_Sent, Field(union_mode="left_to_right")])


def read_message(line: bytes) -> Message | None:
    """Read one line that a port sent; None for what this version does not know."""
    try:
        message = _LINE.validate_json(line)
    except ValidationError:
        return None
    return message.workload if isinstance(message, WorkloadMessage) else message


def send_command(
    path: Path,
    command: Command,
    timeout_s: float,
    *,
    connect: Callable[..., socket.socket] = unix_socket.connect,
) -> Applied:
    """Send a command to the trainer at `path` and wait for its answer.

    connect: called with the path and `timeout_s`, where the path is on another machine.

    Raises RunError where nobody listens, the command is rejected, or no answer comes in time.
    """
    try:
        with (
            connect(path, timeout_s=timeout_s) as client,
            client.makefile("rb") as lines,
        ):
            client.sendall(to_line(command))
            for line in lines:
                if (applied := _applied(line, command)) is not None:
                    return applied
        raise ConnectionResetError
    except TimeoutError:
        raise RunError(
            f"the trainer at {path} gave no answer within {timeout_s:g} s",
            remedy="it answers between two batches: wait, and ask for the settings in force;"
            " the change may yet be applied",
        ) from None
    except (BrokenPipeError, ConnectionResetError):
        raise RunError(
            f"the trainer at {path} closed the connection without an answer",
            remedy="see whether it has ended: its log is in the run folder",
        ) from None
    except OSError as error:
        raise RunError(
            f"no trainer listens at {path}: {error.strerror or error}",
            remedy="check the run folder and the rank; a run that has ended cannot be changed",
        ) from None


def _applied(line: bytes, command: Command) -> Applied | None:
    answer = read_message(line)
    if isinstance(answer, CommandRejected):
        raise RunError(
            f"command {command.command_id} was rejected: {answer.reason}",
            remedy="nothing was changed; correct the command and send it again",
            rank=answer.rank,
        )
    if isinstance(answer, Applied) and answer.command_id == command.command_id:
        return answer
    return None
