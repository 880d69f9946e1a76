"""The thread behind a control port: all sockets, all parsing, nothing of the trainer's time.

It speaks with the trainer through queues only. Whatever clients send, it runs at most a fifth of
the time, so that it cannot take the interpreter from the trainer.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress

from rudder.training.control.finished_window import FinishedWindow
from rudder.training.control.memory_quota import NO_ALLOTMENT, Allotment, NoAllotment
from rudder.training.control.messages import (
    MAX_LINE_BYTES,
    Heartbeat,
    Intervention,
    Introduction,
    InvalidRequestError,
    Rejected,
    SteeringState,
    Subscribe,
    read_request,
    to_line,
)
from rudder.training.control.peers import NO_PEERS, NoPeers, Peers
from rudder.training.settings import Applied, Command
from rudder.training.workload import Workload

MAX_WAITING_WINDOWS = 32


class Connection:
    """One client: what it has sent of its next line, and what it has yet to be sent."""

    def __init__(self, client: socket.socket) -> None:
        """Take over a connected, non-blocking socket."""
        self.socket = client
        self.incoming = bytearray()
        self.answers: deque[bytes] = deque()
        self.windows: deque[bytes] = deque()
        self.unsent = memoryview(b"")
        self.num_rejections = 0
        self.is_subscribed = False
        self.is_open = True

    @property
    def has_unsent(self) -> bool:
        """Whether the client has yet to be sent something."""
        return bool(self.unsent or self.answers or self.windows)

    def lines(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes; what follows them is kept."""
        if b"\n" not in chunk:
            self.incoming += chunk
            return []
        first, *others = chunk.split(b"\n")
        lines = [bytes(self.incoming) + first, *others]
        self.incoming = bytearray(lines.pop())
        return lines

    def add_window(self, line: bytes) -> int:
        """Queue a window for sending; returns how many older ones had to go for it."""
        num_dropped = max(len(self.windows) + 1 - MAX_WAITING_WINDOWS, 0)
        for _ in range(num_dropped):
            self.windows.popleft()
        self.windows.append(line)
        return num_dropped

    def send(self) -> None:
        """Send until nothing is left or the client's end is full; raises OSError if it is gone."""
        while self.has_unsent:
            if not self.unsent:
                queue = self.answers or self.windows
                self.unsent = memoryview(queue.popleft())
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                return
            self.unsent = self.unsent[sent:]


MAX_PENDING_COMMANDS = 16
MAX_CONNECTIONS = 64
_ACCEPTS_AT_ONCE = 16
_MAX_REJECTIONS = 8
_MAX_WAITING_ANSWERS = 64
_MAX_INTERVENTIONS = 256
"""Kept for a controller that is yet to come back."""
_CHUNK_BYTES = 64 * 2**10
_PAUSE_S = 0.001
_PAUSE_PER_WORK = 4
_MAX_PAUSE_S = 0.1


class ControlService:
    """Serves `listener` until `stop`; `commands`, `answer` and `publish` are the trainer's side."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        rank: int,
        workload: Workload | None = None,
        peers: Peers | NoPeers = NO_PEERS,
        allotment: Allotment | NoAllotment = NO_ALLOTMENT,
    ) -> None:
        """Take over the listening socket; `start` begins to serve it."""
        self.commands: deque[Command] = deque()
        self.num_subscribers = 0
        self.last_heartbeat: float | None = None
        self._rank = rank
        self._introduction = None if workload is None else Introduction(workload=workload)
        self._state: SteeringState | None = None
        self._peers, self._allotment = peers, allotment
        self._listener = listener
        self._listener.setblocking(False)
        self._interventions: deque[Intervention] = deque(maxlen=_MAX_INTERVENTIONS)
        self._answers: deque[Applied | SteeringState | Intervention] = deque()
        self._windows: deque[FinishedWindow] = deque()
        self._num_dropped_unread = 0
        self._num_dropped_unsent = 0
        self._asked_by: dict[str, Connection] = {}
        self._connections: dict[Connection, None] = {}
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, name="rudder-control", daemon=True)

    @property
    def num_windows_dropped(self) -> int:
        """Windows that a subscriber missed, because it or this thread was too slow."""
        return self._num_dropped_unread + self._num_dropped_unsent

    def start(self) -> None:
        """Begin to serve."""
        self.thread.start()

    def stop(self) -> None:
        """Refuse what still waits, close every connection and end the thread."""
        self._stopping = True
        self._ring()
        self.thread.join()

    def answer(self, applied: Applied) -> None:
        """Send an answer to the client that asked; called by the trainer, never waits."""
        self._answers.append(applied)
        self._ring()

    def tell(self, news: SteeringState | Intervention) -> None:
        """Send news to all subscribers, and to those to come first of all; never waits."""
        self._answers.append(news)
        self._ring()

    def publish(self, window: FinishedWindow) -> None:
        """Send a window to all subscribers; called by the trainer, never waits."""
        if not self.num_subscribers:
            return
        self._windows.append(window)
        if len(self._windows) > MAX_WAITING_WINDOWS:
            with suppress(IndexError):  # the thread has just taken them all
                self._windows.popleft()
                self._num_dropped_unread += 1
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # it rings already, or the thread has just ended
            self._bell.send(b"\0")

    def _run(self) -> None:
        while not self._stopping:
            ready = self._selector.select()
            started = time.perf_counter()
            for key, mask in ready:
                self._serve(key, mask)
            self._deliver()
            work_s = time.perf_counter() - started
            time.sleep(min(max(_PAUSE_S, _PAUSE_PER_WORK * work_s), _MAX_PAUSE_S))
        self._close_all()

    def _serve(self, key: selectors.SelectorKey, mask: int) -> None:
        if key.fileobj is self._listener:
            for _ in range(_ACCEPTS_AT_ONCE):
                self._accept()
        elif key.fileobj is self._ear:
            self._ear.recv(_CHUNK_BYTES)
        else:
            connection: Connection = key.data
            if mask & selectors.EVENT_READ:
                self._read(connection)
            if mask & selectors.EVENT_WRITE and connection.is_open:
                self._write(connection)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= MAX_CONNECTIONS and not self._close_an_idle_one():
            client.close()
            return
        client.setblocking(False)
        connection = Connection(client)
        self._connections[connection] = None
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _close_an_idle_one(self) -> bool:
        busy = set(self._asked_by.values())
        for connection in self._connections:
            if not connection.is_subscribed and connection not in busy:
                self._close(connection)
                return True
        return False

    def _read(self, connection: Connection) -> None:
        try:
            chunk = connection.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._close(connection)
            return
        for line in connection.lines(chunk):
            if connection.is_open and line.strip():
                self._request(connection, line)
        if connection.is_open and len(connection.incoming) > MAX_LINE_BYTES:
            self._reject(connection, f"a line may have {MAX_LINE_BYTES} bytes")
            self._close(connection)

    def _request(self, connection: Connection, line: bytes) -> None:
        try:
            request = read_request(line)
        except InvalidRequestError as error:
            self._reject(connection, str(error))
            return
        if isinstance(request, Subscribe):
            self._subscribe(connection)
        elif isinstance(request, Heartbeat):
            self.last_heartbeat = time.monotonic()
        else:
            self._command(connection, request)

    def _subscribe(self, connection: Connection) -> None:
        if connection.is_subscribed:
            return
        first = (self._introduction, self._state, *self._interventions)
        lines = (to_line(message) for message in first if message is not None)
        connection.answers.append(b"".join(lines))
        connection.is_subscribed = True
        self.num_subscribers += 1
        self._write(connection)

    def _command(self, connection: Connection, command: Command) -> None:
        if command.command_id in self._asked_by:
            self._reject(connection, "a command of this id is waiting", command.command_id)
        elif len(self._asked_by) >= MAX_PENDING_COMMANDS:
            reason = f"{MAX_PENDING_COMMANDS} commands are waiting; try again"
            self._reject(connection, reason, command.command_id)
        else:
            if command.origin == "controller":
                self.last_heartbeat = time.monotonic()
            connection.num_rejections = 0
            self._asked_by[command.command_id] = connection
            self.commands.append(command)

    def _reject(self, connection: Connection, reason: str, command_id: str | None = None) -> None:
        rejected = Rejected(command_id=command_id, rank=self._rank, reason=reason)
        connection.num_rejections += 1
        connection.answers.append(to_line(rejected))
        self._write(connection)
        if connection.num_rejections >= _MAX_REJECTIONS:
            self._close(connection)

    def _deliver(self) -> None:
        """Hand what the trainer queued to the connections."""
        touched: set[Connection] = set()
        while self._answers:
            answer = self._answers.popleft()
            touched.update(receivers := self._receivers(answer))
            for connection in receivers:
                connection.answers.append(to_line(answer))
        while (window := self._next_window()) is not None:
            line = to_line(window.completed(self._peers, allotment=self._allotment))
            for connection in self._connections:
                if connection.is_subscribed:
                    self._num_dropped_unsent += connection.add_window(line)
                    touched.add(connection)
        for connection in touched:
            self._write(connection)

    def _receivers(self, answer: Applied | SteeringState | Intervention) -> list[Connection]:
        if not isinstance(answer, Applied):
            if isinstance(answer, SteeringState):
                self._state = answer
            else:
                self._interventions.append(answer)
                if answer.tool == "apply_change":
                    return []  # news only for a controller that takes over
            return [connection for connection in self._connections if connection.is_subscribed]
        connection = self._asked_by.pop(answer.command_id, None)
        return [connection] if connection is not None and connection.is_open else []

    def _next_window(self) -> FinishedWindow | None:
        try:
            return self._windows.popleft()
        except IndexError:
            return None

    def _write(self, connection: Connection) -> None:
        try:
            connection.send()
        except OSError:
            self._close(connection)
            return
        if len(connection.answers) > _MAX_WAITING_ANSWERS:
            self._close(connection)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_unsent else 0)
        if self._selector.get_key(connection.socket).events != wanted:
            self._selector.modify(connection.socket, wanted, connection)

    def _close(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        connection.is_open = False
        self.num_subscribers -= connection.is_subscribed
        del self._connections[connection]
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _close_all(self) -> None:
        self._deliver()
        for command_id, connection in self._asked_by.items():
            if connection.is_open:
                self._reject(connection, "the trainer has finished", command_id)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        for end in (self._listener, self._bell, self._ear):
            end.close()
