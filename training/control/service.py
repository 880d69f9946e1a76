"""A trainer's control port and the thread that serves it.

Trainer and thread exchange messages through queues, and the trainer never waits for the thread.
The thread sleeps four times as long as it works, whatever clients send, so that it takes at most
a fifth of the interpreter's time.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Self

from rudder.training.control import unix_socket
from rudder.training.control.log_heads import LogHeads
from rudder.training.control.messages import (
    FULL_ATTENTION,
    MAX_LINE_BYTES,
    WINDOW_STEPS,
    Attention,
    CommandRejected,
    Heartbeat,
    Intervention,
    InvalidRequestError,
    SteeringState,
    Subscribe,
    TurnAnswer,
    TurnRequest,
    WorkloadMessage,
    read_request,
    to_line,
)
from rudder.training.control.peers import FinishedWindow, Peers
from rudder.training.settings import Applied, Command
from rudder.training.workload import Workload

MAX_WAITING_WINDOWS = 32
"""A client that reads slowly loses older windows."""


class ControlClient:
    """A client, the part of its next line that has arrived, and what is still to be sent to it."""

    def __init__(self, client: socket.socket) -> None:
        """Take over a connected, non-blocking socket."""
        self.socket = client
        self.incoming = bytearray()
        self.answers: deque[bytes] = deque()
        self.windows: deque[bytes] = deque(maxlen=MAX_WAITING_WINDOWS)
        self.unsent = memoryview(b"")
        self.num_rejections = 0
        self.attention = FULL_ATTENTION
        self.is_subscribed = False
        self.is_open = True

    @property
    def has_unsent(self) -> bool:
        """Whether something is still to be sent."""
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
"""The newest are kept for a controller that connects later."""
_CHUNK_BYTES = 64 * 2**10
_PAUSE_S = 0.001
_PAUSE_PER_WORK = 4
_MAX_PAUSE_S = 0.1


class NoControl:
    """In place of a control port where there is none."""

    wants_accesses = False
    window_steps = WINDOW_STEPS

    def publish(self, window: FinishedWindow) -> None:
        """Do nothing."""


class ControlPort:
    """A trainer's control port: a Unix-domain socket, served by one daemon thread.

    Commands come in; answers and metrics windows go out. The trainer's methods never wait.
    """

    def __init__(
        self,
        path: Path,
        rank: int,
        *,
        workload: Workload | None = None,
        peers: Peers | None = None,
        heads: LogHeads | None = None,
    ) -> None:
        """Listen at `path`; raises RunError where that is impossible.

        workload: what subscribers are told of the run; peers, heads: the other ranks,
        None: there are none.
        """
        self._listener = unix_socket.listen(path)
        self._listener.setblocking(False)
        self._path, self._inode = path, path.stat().st_ino
        self._commands: deque[Command] = deque()
        self._wanted: tuple[Attention, ...] = ()
        self._last_heartbeat: float | None = None
        self._rank = rank
        self._workload_message = None if workload is None else WorkloadMessage(workload=workload)
        self._state: SteeringState | None = None
        self._peers, self._heads = peers or Peers(), heads or LogHeads()
        self._interventions: deque[Intervention] = deque(maxlen=_MAX_INTERVENTIONS)
        self._answers: deque[Applied | SteeringState | Intervention] = deque()
        self._windows: deque[FinishedWindow] = deque(maxlen=MAX_WAITING_WINDOWS)
        self._asked_by: dict[str, ControlClient] = {}
        self._clients: dict[ControlClient, None] = {}
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="rudder-control", daemon=True)
        self._thread.start()

    # -- the trainer's side ----------------------------------------------------------------

    @property
    def wants_accesses(self) -> bool:
        """Whether some subscriber wants sampled accesses."""
        return any(each.accesses for each in self._wanted)

    @property
    def window_steps(self) -> int:
        """Of a window: as few as some subscriber wants."""
        return min((each.window_steps for each in self._wanted), default=WINDOW_STEPS)

    @property
    def last_heartbeat(self) -> float | None:
        """When a controller was last heard (time.monotonic); None: never."""
        return self._last_heartbeat

    def take(self) -> Command | None:
        """The next command, if one waits; each is to be answered."""
        return self._commands.popleft() if self._commands else None

    def answer(self, applied: Applied) -> None:
        """Tell the client that sent the command what became of it."""
        self._answers.append(applied)
        self._ring()

    def tell(self, news: SteeringState | Intervention) -> None:
        """Tell subscribers, now and to come, how steering stands or what was done without them."""
        self._answers.append(news)
        self._ring()

    def publish(self, window: FinishedWindow) -> None:
        """Hand a window to all subscribers; a slow one loses the oldest."""
        if self._wanted:
            self._windows.append(window)
            self._ring()

    def close(self) -> None:
        """Refuse the commands that wait, end the thread and remove the socket file."""
        if self._stopping:
            return
        self._stopping = True
        self._ring()
        self._thread.join()
        self._commands.clear()
        with suppress(OSError):  # another port has the path, or the disk became read-only
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close, whatever happened."""
        self.close()

    def _ring(self) -> None:
        with suppress(OSError):  # it rings already, or the thread has just ended
            self._bell.send(b"\0")

    # -- the thread's side -----------------------------------------------------------------

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
            client: ControlClient = key.data
            if mask & selectors.EVENT_READ:
                self._read(client)
            if mask & selectors.EVENT_WRITE and client.is_open:
                self._write(client)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CONNECTIONS and not self._close_an_idle_one():
            accepted.close()
            return
        accepted.setblocking(False)
        client = ControlClient(accepted)
        self._clients[client] = None
        self._selector.register(accepted, selectors.EVENT_READ, client)

    def _close_an_idle_one(self) -> bool:
        busy = set(self._asked_by.values())
        for client in self._clients:
            if not client.is_subscribed and client not in busy:
                self._close(client)
                return True
        return False

    def _read(self, client: ControlClient) -> None:
        try:
            chunk = client.socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._close(client)
            return
        for line in client.lines(chunk):
            if client.is_open and line.strip():
                self._request(client, line)
        if client.is_open and len(client.incoming) > MAX_LINE_BYTES:
            self._reject(client, f"a line may have {MAX_LINE_BYTES} bytes")
            self._close(client)

    def _request(self, client: ControlClient, line: bytes) -> None:
        try:
            request = read_request(line)
        except InvalidRequestError as error:
            self._reject(client, str(error))
            return
        if isinstance(request, Subscribe):
            self._subscribe(client)
        elif isinstance(request, Heartbeat):
            self._beat(client, request)
        elif isinstance(request, Attention):
            client.attention = request
            self._look_who_wants()
        elif isinstance(request, TurnRequest):
            turn = self._peers.write_turn(request.turn, instead_of=request.instead_of)
            client.answers.append(to_line(TurnAnswer(turn=turn)))
            self._write(client)
        else:
            self._command(client, request)

    def _subscribe(self, client: ControlClient) -> None:
        if client.is_subscribed:
            return
        first = (self._workload_message, self._state, *self._interventions)
        lines = (to_line(message) for message in first if message is not None)
        client.answers.append(b"".join(lines))
        client.is_subscribed = True
        self._look_who_wants()
        self._write(client)

    def _beat(self, client: ControlClient, heartbeat: Heartbeat) -> None:
        self._last_heartbeat = time.monotonic()
        head = heartbeat.head and self._heads.exchange(heartbeat.head)
        if head is not None:
            client.answers.append(to_line(head))
            self._write(client)

    def _command(self, client: ControlClient, command: Command) -> None:
        if command.command_id in self._asked_by:
            self._reject(client, "a command of this id is waiting", command.command_id)
        elif len(self._asked_by) >= MAX_PENDING_COMMANDS:
            reason = f"{MAX_PENDING_COMMANDS} commands are waiting; try again"
            self._reject(client, reason, command.command_id)
        else:
            if command.origin == "controller":
                self._last_heartbeat = time.monotonic()
            client.num_rejections = 0
            self._asked_by[command.command_id] = client
            self._commands.append(command)

    def _reject(self, client: ControlClient, reason: str, command_id: str | None = None) -> None:
        rejected = CommandRejected(command_id=command_id, rank=self._rank, reason=reason)
        client.num_rejections += 1
        client.answers.append(to_line(rejected))
        self._write(client)
        if client.num_rejections >= _MAX_REJECTIONS:
            self._close(client)

    def _deliver(self) -> None:
        """Send what the trainer has queued."""
        touched: set[ControlClient] = set()
        while self._answers:
            answer = self._answers.popleft()
            touched.update(receivers := self._receivers(answer))
            for client in receivers:
                client.answers.append(to_line(answer))
        while self._windows:
            line = to_line(self._windows.popleft().completed(self._peers))
            for client in self._subscribers():
                client.windows.append(line)
                touched.add(client)
        for client in touched:
            self._write(client)

    def _receivers(self, answer: Applied | SteeringState | Intervention) -> list[ControlClient]:
        if isinstance(answer, Applied):
            client = self._asked_by.pop(answer.command_id, None)
            return [client] if client is not None and client.is_open else []
        if isinstance(answer, SteeringState):
            self._state = answer
            return self._subscribers()
        self._interventions.append(answer)
        # a controller knows what it did itself; only one that takes over is told
        return [] if answer.tool == "apply_change" else self._subscribers()

    def _look_who_wants(self) -> None:
        self._wanted = tuple(client.attention for client in self._subscribers())

    def _subscribers(self) -> list[ControlClient]:
        return [client for client in self._clients if client.is_subscribed]

    def _write(self, client: ControlClient) -> None:
        try:
            client.send()
        except OSError:
            self._close(client)
            return
        if len(client.answers) > _MAX_WAITING_ANSWERS:
            self._close(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.has_unsent else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)

    def _close(self, client: ControlClient) -> None:
        if not client.is_open:
            return
        client.is_open = False
        del self._clients[client]
        self._look_who_wants()
        self._selector.unregister(client.socket)
        client.socket.close()

    def _close_all(self) -> None:
        self._deliver()
        for command_id, client in self._asked_by.items():
            if client.is_open:
                self._reject(client, "the trainer has finished", command_id)
        for client in list(self._clients):
            self._close(client)
        self._selector.close()
        for end in (self._listener, self._bell, self._ear):
            end.close()
