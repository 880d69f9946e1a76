"""The control folder of a run that trains on several machines, reached from any of them.

The launcher opens a port. `launcher.json` in the run's folder, which only its user may read, has
its addresses and a token. A client says the token and one request in a line of JSON. After
`connect` the connection leads to the control socket of a trainer.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import socketserver
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, Self

from pydantic import Field, ValidationError

from rudder.training.control import unix_socket
from rudder.training.errors import ConfigError, RunError
from rudder.training.settings import Frozen

DOOR_FILE = "launcher.json"
_LONGEST_LINE = 64 * 2**10
_WAIT_S = 10.0


class DoorPlace(Frozen):
    """Where the launcher of a run is found. hosts: the machine of each trainer, by rank."""

    machine: str
    addresses: tuple[str, ...]
    port: int = Field(ge=1, le=65535)
    token: str
    hosts: tuple[str, ...]


class _Request(Frozen):
    token: str
    do: Literal["list", "read", "write", "remove", "connect"]
    name: str = ""
    text: str = ""


class _Answer(Frozen):
    names: tuple[str, ...] = ()
    text: str | None = None
    error: str = ""


class Control(Protocol):
    """The control folder of a run: here, or behind the launcher's door."""

    hosts: tuple[str, ...]
    """The machine of each trainer, by rank, where these are not on the launcher's machine."""

    def sockets(self) -> list[Path]:
        """The trainers' sockets, in the order of ranks."""

    def connect(self, path: Path, *, timeout_s: float) -> socket.socket:
        """Connect to one of them; raises OSError where nobody listens."""

    def read(self, name: str) -> str | None:
        """What a file of the folder holds; None where there is none."""

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, whole."""

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""


class LocalControl:
    """The control folder on this machine."""

    def __init__(self, folder: Path, *, hosts: tuple[str, ...] = ()) -> None:
        self._folder, self.hosts = folder, hosts

    def sockets(self) -> list[Path]:
        """The trainers' sockets, in the order of ranks."""
        return sorted(self._folder.glob("rank*.sock"), key=rank_of_socket)

    def connect(self, path: Path, *, timeout_s: float) -> socket.socket:
        """Connect to one of them; raises OSError where nobody listens."""
        return unix_socket.connect(path, timeout_s=timeout_s)

    def read(self, name: str) -> str | None:
        """What a file of the folder holds; None where there is none."""
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, whole."""
        fresh = self._folder / f"{name}.tmp"
        fresh.write_text(text)
        fresh.replace(self._folder / name)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""
        (self._folder / name).unlink(missing_ok=True)


class RemoteControl:
    """The control folder behind the launcher's door; raises RunError where that is shut."""

    def __init__(self, place: DoorPlace, *, run: Path, timeout_s: float = _WAIT_S) -> None:
        self._place, self._run, self.hosts = place, run, place.hosts
        self._timeout_s = timeout_s

    def sockets(self) -> list[Path]:
        """The trainers' sockets, in the order of ranks."""
        return sorted((Path(name) for name in self._ask("list").names), key=rank_of_socket)

    def connect(self, path: Path, *, timeout_s: float) -> socket.socket:
        """Connect to one of them; raises OSError where nobody listens."""
        client, answer = self._open("connect", path.name, timeout_s=timeout_s)
        if answer.error:
            client.close()
            raise ConnectionRefusedError(answer.error)
        return client

    def read(self, name: str) -> str | None:
        """What a file of the folder holds; None where there is none."""
        return self._ask("read", name).text

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, whole."""
        self._ask("write", name, text)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""
        self._ask("remove", name)

    def _ask(self, do: str, name: str = "", text: str = "") -> _Answer:
        client, answer = self._open(do, name, text)
        client.close()
        if answer.error:
            raise RunError(
                f"the launcher of {self._run} could not do that: {answer.error}",
                remedy=f"see how the run stands on {self._place.machine}",
            )
        return answer

    def _open(
        self, do: str, name: str = "", text: str = "", *, timeout_s: float | None = None
    ) -> tuple[socket.socket, _Answer]:
        request = {"token": self._place.token, "do": do, "name": name, "text": text}
        line = _Request.model_validate(request).model_dump_json().encode() + b"\n"
        why: Exception | None = None
        for address in self._place.addresses:
            try:
                client = socket.create_connection(
                    (address, self._place.port), timeout_s or self._timeout_s
                )
            except (OSError, UnicodeError) as error:  # of a name that no machine can have
                why = error
                continue
            try:
                client.sendall(line)
                return client, _Answer.model_validate_json(_line_from(client))
            except (OSError, ValidationError) as error:
                client.close()
                why = error
        raise RunError(
            f"the launcher of {self._run} on {self._place.machine} cannot be reached: {why}",
            remedy="the run is over, or this machine does not reach that one: see whether"
            f" `rudder train` runs on {self._place.machine}",
        )


def control_of(run: Path) -> Control:
    """The control folder of a run, here or behind its launcher's door."""
    place = _place_in(run)
    here = LocalControl(run / "control", hosts=() if place is None else place.hosts)
    if place is None or _is_here(here):
        return here
    return RemoteControl(place, run=run)


def launcher_answers(run: Path, *, timeout_s: float) -> bool:
    """Whether the door of a run is open, on whatever machine its launcher is."""
    with suppress(ConfigError, RunError):
        place = _place_in(run)
        if place is not None:
            RemoteControl(place, run=run, timeout_s=timeout_s).sockets()
            return True
    return False


def listens(control: Control, path: Path, *, timeout_s: float) -> bool:
    """Whether a trainer is at its socket; one that is too busy to answer in time is."""
    try:
        control.connect(path, timeout_s=timeout_s).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def rank_of_socket(path: Path) -> int:
    """The rank of the trainer behind a control socket, of which a benchmark gives it several:
    `rank1.sock`, `rank1-0.sock`."""
    return int(path.stem.removeprefix("rank").partition("-")[0])


def _place_in(run: Path) -> DoorPlace | None:
    file = run / DOOR_FILE
    try:
        return DoorPlace.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}",
            remedy="give this command as the user who trains, with the same version of Rudder",
        ) from None


def _is_here(control: LocalControl) -> bool:
    """Whether the launcher is on this machine."""
    for path in control.sockets():
        with suppress(OSError):
            control.connect(path, timeout_s=1.0).close()
            return True
    return False


# -- the launcher's end -------------------------------------------------------------------------


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(("", 0), _Handler)
        self.control, self.folder, self.token = LocalControl(folder), folder, token

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no news."""


class _Handler(socketserver.StreamRequestHandler):
    timeout = _WAIT_S

    def handle(self) -> None:
        """Answer one request."""
        assert isinstance(self.server, _Server)
        try:
            request = _Request.model_validate_json(_line_from(self.connection))
        except ValidationError:
            return
        if not hmac.compare_digest(request.token.encode(), self.server.token.encode()):
            return
        try:
            self._answer(request, self.server)
        except OSError as error:
            self._say(_Answer(error=error.strerror or str(error)))

    def _answer(self, request: _Request, server: _Server) -> None:
        control, name = server.control, Path(request.name).name
        match request.do:
            case "list":
                names = tuple(path.name for path in control.sockets())
                self._say(_Answer(names=names))
            case "read":
                self._say(_Answer(text=control.read(name)))
            case "write":
                control.write(name, request.text)
                self._say(_Answer())
            case "remove":
                control.remove(name)
                self._say(_Answer())
            case "connect":
                with control.connect(server.folder / name, timeout_s=_WAIT_S) as trainer:
                    self._say(_Answer())
                    unix_socket.join(self.connection, trainer)

    def _say(self, answer: _Answer) -> None:
        self.connection.sendall(answer.model_dump_json().encode() + b"\n")


class Door:
    """Lets other machines reach the control folder of a run within its `with` block."""

    def __init__(
        self, run_dir: Path, *, control: Path, addresses: Sequence[str], hosts: Sequence[str]
    ) -> None:
        """control: the folder; addresses: this machine's, of which others may reach one; hosts: see
        `DoorPlace`."""
        self._file, self._addresses, self._hosts = run_dir / DOOR_FILE, addresses, hosts
        self._server = _Server(control, secrets.token_urlsafe(32))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        """Open the port, and write down where it is."""
        place = DoorPlace(
            machine=socket.gethostname(),
            addresses=tuple(self._addresses),
            port=self._server.server_address[1],
            token=self._server.token,
            hosts=tuple(self._hosts),
        )
        self._file.touch(0o600)
        self._file.write_text(place.model_dump_json(indent=2) + "\n")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Shut the port."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _line_from(connection: socket.socket) -> bytes:
    """A line, and not a byte of what follows it."""
    found = b""
    while not found.endswith(b"\n") and len(found) < _LONGEST_LINE:
        if not (byte := connection.recv(1)):
            break
        found += byte
    return found
