"""One client of a control port: bytes in, lines out, bounded both ways."""

from __future__ import annotations

import socket
from collections import deque

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
