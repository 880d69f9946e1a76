"""The launcher's end of the stream to a host's agent."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from rudder.training.control import unix_socket
from rudder.training.errors import MachineError
from rudder.training.hosts.messages import (
    CHUNK_BYTES,
    HEARTBEAT_SECONDS,
    LENGTHS,
    MAGIC,
    SILENCE_SECONDS,
    Alive,
    Carry,
    Connect,
    Exited,
    Finish,
    Frame,
    FromHost,
    Goodbye,
    HostReport,
    Mirror,
    Output,
    Ping,
    Removed,
    Signal,
    Start,
    Started,
    ToHost,
    Trouble,
    Write,
    from_host,
    lengths_of,
)
from rudder.training.hosts.mirror import RunFolder

Answer = TypeVar("Answer", bound=FromHost)
_BANNER_BYTES = 1 << 20
"""Of what a login shell may print before the agent's first word."""
_ANSWER_SECONDS = 60.0
_FINISH_SECONDS = 120.0
_STUCK_CLIENT_SECONDS = 5.0
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Stream:
    """Bytes to and from an agent. close: ends what carries them; why_ended: what it said last."""

    reader: IO[bytes]
    writer: IO[bytes]
    close: Callable[[], None]
    why_ended: Callable[[], str]


class RemoteProcess:
    """A process on another machine, as its agent tells of it; see `HostProcess`."""

    def __init__(self, link: HostLink, number: int) -> None:
        self._link, self._number = link, number
        self._readable, self._wake = os.pipe()
        os.set_blocking(self._readable, False)
        self._waiting: deque[bytes] = deque()
        self._ended = threading.Event()
        self._code: int | None = None
        self.pid = 0
        self.is_stopped = False

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if it was killed."""
        return self._code

    @property
    def lost(self) -> str:
        """Why its host is lost; empty while it is not."""
        return self._link.lost

    def fileno(self) -> int:
        """A pipe that wakes whoever waits for output or for the end."""
        return self._readable

    def read(self) -> bytes:
        """What it has written to standard output; never waits."""
        with suppress(BlockingIOError):
            os.read(self._readable, CHUNK_BYTES)
        found = b""
        with suppress(IndexError):
            while True:
                found += self._waiting.popleft()
        return found

    def write(self, data: bytes) -> None:
        """Give it something on standard input."""
        self._link.send(Write(number=self._number), data)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        self._link.send(Signal(number=self._number, signal=number.value))

    def wait(self, until: float) -> bool:
        """Wait for the end until a point of `time.monotonic`."""
        return self._ended.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Kill what is left of it."""
        self.signal(signal.SIGKILL)

    def forget(self) -> None:
        """Close what wakes its readers; the link is over."""
        os.close(self._readable)
        os.close(self._wake)

    # -- the link's thread ----------------------------------------------------------------------

    def note_output(self, data: bytes) -> None:
        """More has come from standard output."""
        self._waiting.append(data)
        os.write(self._wake, b".")

    def note_end(self, code: int) -> None:
        """It has ended."""
        if self._code is None:
            self._code = code
            self._ended.set()
            os.write(self._wake, b".")


class HostLink:
    """Asks the agent of one host, and takes in what it sends. Threads read, ping and watch.

    Files that the run writes there are written into `run_dir`, those of its folder `control` into
    the one of that name here. `lost` says why the host is lost, and is empty while it is not.
    """

    def __init__(self, stream: Stream, *, name: str, run_dir: Path, control: Path) -> None:
        self.name, self._stream = name, stream
        self._folder = RunFolder(run_dir, control=control)
        self.lost = ""
        self.memory_kills = 0
        self._writing, self._asking = threading.Lock(), threading.Lock()
        self._answers: queue.Queue[FromHost] = queue.Queue()
        self._processes: dict[int, RemoteProcess] = {}
        self._clients: dict[int, socket.socket] = {}
        self._next_number = 0
        self._heard = time.monotonic()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"rudder-host-{name}", daemon=True)
            for work in (self._read, self._ping, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def report(self, *, timeout_s: float) -> HostReport:
        """The host's first words; raises MachineError where none come."""
        return self._answer(HostReport, timeout_s)

    def ask(self, message: ToHost, answer: type[Answer], data: bytes = b"") -> Answer:
        """Send a question and wait for its answer; raises MachineError."""
        with self._asking:
            self.send(message, data)
            return self._answer(answer, _ANSWER_SECONDS)

    def send(self, message: ToHost, data: bytes = b"") -> None:
        """Send without an answer; nothing happens once the host is lost."""
        content = Frame(message, data).encode()
        with self._writing:
            try:
                self._stream.writer.write(content)
                self._stream.writer.flush()
            except (OSError, ValueError) as error:
                self._lose(f"the connection broke ({error})")

    def start(
        self, argv: Sequence[str], *, variables: Mapping[str, str], log: Path
    ) -> RemoteProcess:
        """Run Python there with these arguments; raises MachineError where it does not start."""
        number = self._number()
        process = self._processes[number] = RemoteProcess(self, number)
        start = Start(number=number, argv=tuple(argv), variables=dict(variables), log=log.name)
        process.pid = self.ask(start, Started).pid
        return process

    def connect(self, client: socket.socket, *, path: str) -> None:
        """Carry a client's bytes to the socket `path` of the run's folder there, and back."""
        number = self._number()
        self._clients[number] = client
        self.send(Connect(number=number, path=path))
        self._begin_to_carry(number, client)

    def _begin_to_carry(self, number: int, client: socket.socket) -> None:
        client.settimeout(_STUCK_CLIENT_SECONDS)
        threading.Thread(target=self._carry, args=(number, client), daemon=True).start()

    def close(self) -> None:
        """End all processes there, take what the run has written, and let the agent go."""
        if self._is_over.is_set():
            return
        with suppress(MachineError):
            if not self.lost:
                with self._asking:
                    self.send(Finish())
                    self._answer(Goodbye, _FINISH_SECONDS)
        self._is_over.set()
        self._stream.close()
        for thread in self._threads:
            thread.join(_END_SECONDS)
        self._stream.reader.close()
        for process in self._processes.values():
            process.forget()
        for number in list(self._clients):
            self._drop(number)

    def _number(self) -> int:
        with self._writing:
            self._next_number += 1
            return self._next_number

    def _answer(self, kind: type[Answer], timeout_s: float) -> Answer:
        until = time.monotonic() + timeout_s
        while True:
            try:
                found = self._answers.get(timeout=min(0.2, max(0.01, until - time.monotonic())))
            except queue.Empty:
                if not self.lost and time.monotonic() < until:
                    continue
                why = self.lost or f"no answer within {timeout_s:g} s"
                remedy = remedy_for(why, name=self.name)
                raise MachineError(
                    f"host {self.name}: {why}", remedy=remedy, lost_hosts=(self.name,)
                ) from None
            if isinstance(found, Trouble):
                raise MachineError(f"host {self.name}: {found.message}", remedy=found.remedy)
            if isinstance(found, kind):
                return found

    # -- the reading thread ---------------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._skip_banner()
            while True:
                self._take(self._frame())
        except (EOFError, OSError, ValueError):
            self._lose(self._stream.why_ended() or "its agent has ended")
        except MachineError as error:
            self._lose(error.message)

    def _skip_banner(self) -> None:
        """Leave out what the remote shell prints before the agent speaks."""
        for line in iter(lambda: self._stream.reader.readline(_BANNER_BYTES), b""):
            if line.endswith(MAGIC):
                return
        raise EOFError

    def _frame(self) -> Frame:
        text, data = lengths_of(self._exactly(LENGTHS.size))
        return from_host(self._exactly(text), self._exactly(data))

    def _exactly(self, num_bytes: int) -> bytes:
        found = self._stream.reader.read(num_bytes)
        if len(found) < num_bytes:
            raise EOFError
        return found

    def _take(self, frame: Frame) -> None:
        self._heard = time.monotonic()
        match frame.message:
            case Alive(memory_kills=kills, stopped=stopped):
                self.memory_kills = kills
                for number, process in self._processes.items():
                    process.is_stopped = number in stopped
            case Output(number=number):
                self._processes[number].note_output(frame.data)
            case Exited(number=number, code=code, memory_kills=kills):
                self.memory_kills = kills
                self._processes[number].note_end(code)
            case Mirror() as piece:
                self._folder.take(piece, frame.data)
            case Removed(path=path):
                self._folder.remove(path)
            case Connect(number=number, path=path):
                self._connect_here(number, self._folder.inside(path))
            case Carry(number=number):
                self._give(number, frame.data)
            case message:
                self._answers.put(message)  # type: ignore[arg-type]  # from_host reads no others

    def _connect_here(self, number: int, path: Path) -> None:
        """A process there wants a socket of the launcher's."""
        try:
            client = unix_socket.connect(path, timeout_s=_STUCK_CLIENT_SECONDS)
        except OSError:
            self.send(Carry(number=number))
            return
        self._clients[number] = client
        self._begin_to_carry(number, client)

    def _give(self, number: int, data: bytes) -> None:
        client = self._clients.get(number)
        if client is None:
            return
        try:
            if data:
                client.sendall(data)
                return
        except OSError:
            self.send(Carry(number=number))
        self._drop(number)

    def _carry(self, number: int, client: socket.socket) -> None:
        """A client's thread: what it says goes to the host."""
        while number in self._clients:
            try:
                data = client.recv(CHUNK_BYTES)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            self.send(Carry(number=number), data)
            if not data:
                self._drop(number)

    def _drop(self, number: int) -> None:
        if (client := self._clients.pop(number, None)) is not None:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # wakes the client's thread
            client.close()

    # -- two more threads -----------------------------------------------------------------------

    def _ping(self) -> None:
        while not self._is_over.wait(HEARTBEAT_SECONDS) and not self.lost:
            self.send(Ping())

    def _watch(self) -> None:
        """Never sends, for that may block when the host hangs."""
        while not self._is_over.wait(HEARTBEAT_SECONDS) and not self.lost:
            if time.monotonic() - self._heard > SILENCE_SECONDS:
                self._lose(f"no word for {SILENCE_SECONDS:g} s")
                self._stream.close()

    def _lose(self, why: str) -> None:
        if self.lost or self._is_over.is_set():
            return
        self.lost = why
        for process in list(self._processes.values()):
            process.note_end(-signal.SIGKILL)


_REMEDIES = {
    "Host key verification failed": "this machine does not know the key of that one, or another"
    " one: compare it once with `ssh {name}`, and accept it",
    "Permission denied": "let yourself in without a password: `ssh-copy-id {name}`",
    "Could not resolve hostname": "mend its name in --hosts, or give it an address in"
    " ~/.ssh/config",
    "No such file or directory": "install Rudder there, in the same place, or name the interpreter"
    " with --remote-python",
    "No module named": "install Rudder there, in the same version, or name the interpreter that"
    " has it with --remote-python",
}
"""By what ssh, or the shell on the machine, said last."""


def remedy_for(why: str, *, name: str) -> str:
    """What to do about a machine that is lost or not reached. why: what it said last."""
    look = "see whether the machine is up, and what `ssh {name}` or the scheduler says of it"
    found = next((remedy for text, remedy in _REMEDIES.items() if text in why), look)
    return found.format(name=name)
