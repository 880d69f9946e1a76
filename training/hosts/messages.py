"""What the launcher and the agent of a host tell each other, and how it is written.

A frame is two lengths (big-endian, 4 bytes each), a message as JSON, and the bytes that belong to
it. The agent's stream begins with `MAGIC`, so that what a login shell prints before is skipped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rudder.training.errors import MachineError
from rudder.training.settings import Frozen

MAGIC = b"rudder-host-1\n"
LENGTHS = struct.Struct(">II")
MAX_MESSAGE_BYTES = 16 << 20
CHUNK_BYTES = 1 << 18
"""Of a file or a stream, in one frame."""
TOKEN_VARIABLE = "RUDDER_TOKEN"
"""Environment variable with the secret that an agent says when it connects."""
PARENT_VARIABLE = "RUDDER_AGENT_PARENT"
"""Environment variable with the process id of an agent's parent, if the agent ends with it."""
HEARTBEAT_SECONDS = 2.0
SILENCE_SECONDS = 20.0
"""Either side takes the other for lost that has said nothing for so long."""


class FileSize(Frozen):
    """A file below a folder, and its size in bytes."""

    path: str
    size: int


# -- from the launcher ------------------------------------------------------------------------


class Ping(Frozen):
    """The launcher lives."""

    kind: Literal["ping"] = "ping"


class FindFiles(Frozen):
    """Which of these files are in the folder, and with which sizes?"""

    kind: Literal["find"] = "find"
    folder: Path
    names: tuple[str, ...]


class PutFile(Frozen):
    """The bytes are a piece of a file, from `offset`; the file is complete with `digest`.

    digest: XXH3 of the whole file, with the last piece only. The folder is made if need be.
    """

    kind: Literal["put"] = "put"
    path: Path
    offset: int
    digest: str | None = None


class RemoveFile(Frozen):
    """Remove a file, if it is there."""

    kind: Literal["remove"] = "remove"
    path: Path


class ReservePorts(Frozen):
    """Which consecutive ports are free on the address? first: the wish of the user."""

    kind: Literal["reserve"] = "reserve"
    address: str
    count: int
    first: int | None


class Start(Frozen):
    """Run Python with these arguments; `number` names the process from now on.

    log: file for its standard error, in the run's folder on the host.
    """

    kind: Literal["start"] = "start"
    number: int
    argv: tuple[str, ...]
    variables: dict[str, str]
    log: str


class Write(Frozen):
    """The bytes go to the process's standard input."""

    kind: Literal["write"] = "write"
    number: int


class Signal(Frozen):
    """Send a signal to the process group."""

    kind: Literal["signal"] = "signal"
    number: int
    signal: int


class Listen(Frozen):
    """Listen at the Unix socket `path` in the run's folder; what connects is for the launcher."""

    kind: Literal["listen"] = "listen"
    path: str


class Finish(Frozen):
    """End all processes, send what the run has written, say goodbye."""

    kind: Literal["finish"] = "finish"


# -- in both directions -----------------------------------------------------------------------


class Connect(Frozen):
    """Open the Unix socket at `path` in the run's folder on the other side.

    number: names the connection; the host's own are negative.
    """

    kind: Literal["connect"] = "connect"
    number: int
    path: str


class Carry(Frozen):
    """The bytes belong to a connection; none: this side has closed it."""

    kind: Literal["carry"] = "carry"
    number: int


# -- from the host ----------------------------------------------------------------------------


class HostReport(Frozen):
    """What a host is; the first message of its agent.

    folder: the run's folder there; cache: where parts of graphs are kept; addresses: IPv4 addresses
    by network interface.
    """

    kind: Literal["report"] = "report"
    name: str
    folder: Path
    cache: Path
    shm_prefix: str
    num_cores: int
    memory_bytes: int
    shm_bytes: int
    addresses: dict[str, tuple[str, ...]]
    versions: dict[str, str]


class Alive(Frozen):
    """The agent lives. memory_kills: of this machine's kernel; stopped: processes, by number."""

    kind: Literal["alive"] = "alive"
    memory_kills: int
    stopped: tuple[int, ...]


class Found(Frozen):
    """Answers FindFiles: the files that are there."""

    kind: Literal["found"] = "found"
    files: tuple[FileSize, ...]


class Stored(Frozen):
    """A file has arrived whole."""

    kind: Literal["stored"] = "stored"
    path: Path


class Ports(Frozen):
    """Answers ReservePorts."""

    kind: Literal["ports"] = "ports"
    first: int


class Trouble(Frozen):
    """The host cannot do what was asked last."""

    kind: Literal["trouble"] = "trouble"
    message: str
    remedy: str


class Started(Frozen):
    """A process runs."""

    kind: Literal["started"] = "started"
    number: int
    pid: int


class Output(Frozen):
    """The bytes come from a process's standard output."""

    kind: Literal["output"] = "output"
    number: int


class Exited(Frozen):
    """A process has ended; code: minus the signal's number if it was killed."""

    kind: Literal["exited"] = "exited"
    number: int
    code: int
    memory_kills: int


class Mirror(Frozen):
    """The bytes are a piece of a file of the run's folder, from `offset`.

    A log grows piece by piece. Any other file takes the place of an older one with its last piece.
    """

    kind: Literal["mirror"] = "mirror"
    path: str
    offset: int
    is_log: bool
    is_last: bool


class Removed(Frozen):
    """A file of the run's folder is gone."""

    kind: Literal["removed"] = "removed"
    path: str


class Goodbye(Frozen):
    """All has been sent."""

    kind: Literal["goodbye"] = "goodbye"


ToHost = (
    Ping
    | FindFiles
    | PutFile
    | RemoveFile
    | ReservePorts
    | Start
    | Write
    | Signal
    | Listen
    | Connect
    | Carry
    | Finish
)
FromHost = (
    HostReport
    | Alive
    | Found
    | Stored
    | Ports
    | Trouble
    | Started
    | Output
    | Exited
    | Mirror
    | Removed
    | Connect
    | Carry
    | Goodbye
)
_TO_HOST: TypeAdapter[ToHost] = TypeAdapter(Annotated[ToHost, Field(discriminator="kind")])
_FROM_HOST: TypeAdapter[FromHost] = TypeAdapter(Annotated[FromHost, Field(discriminator="kind")])


@dataclass(frozen=True)
class Frame:
    """A message and the bytes that belong to it."""

    message: ToHost | FromHost
    data: bytes = b""

    def encode(self) -> bytes:
        """As it goes over the wire."""
        text = self.message.model_dump_json().encode()
        return LENGTHS.pack(len(text), len(self.data)) + text + self.data


def lengths_of(header: bytes) -> tuple[int, int]:
    """Bytes of the message and of its data; raises MachineError for what is no frame."""
    text, data = LENGTHS.unpack(header)
    if max(text, data) > MAX_MESSAGE_BYTES:
        raise MachineError("the stream of a host is garbled", remedy=_OTHER_VERSION)
    return text, data


def to_host(text: bytes, data: bytes) -> Frame:
    """A frame from the launcher; raises MachineError."""
    return Frame(_read(_TO_HOST, text), data)


def from_host(text: bytes, data: bytes) -> Frame:
    """A frame from a host's agent; raises MachineError."""
    return Frame(_read(_FROM_HOST, text), data)


_OTHER_VERSION = "install the same version of Rudder on all hosts"


def _read(adapter: TypeAdapter[ToHost] | TypeAdapter[FromHost], text: bytes) -> ToHost | FromHost:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise MachineError(
            f"a host and the launcher do not understand each other: {error.errors()[0]['msg']}",
            remedy=_OTHER_VERSION,
        ) from None
