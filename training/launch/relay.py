"""Connects controllers on local hosts to a language model outside the hosts' networks.

Local hosts live in network namespaces from which only each other is reached, but all of them see
the same files. So a controller connects to a Unix-domain socket in the run folder, and this relay,
which runs with the launcher, carries the bytes to the model's address and to no other.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from rudder.training.control import unix_socket

_CONNECT_TIMEOUT_S = 30.0


class Relay:
    """Serves `path` within its `with` block; two threads carry each connection's bytes."""

    def __init__(self, path: Path, *, host: str, port: int) -> None:
        """Bytes that come at `path` go to `host`:`port`, and back."""
        self._path, self._host, self._port = path, host, port
        self._thread = threading.Thread(target=self._accept, name="rudder-relay", daemon=True)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_over = False

    def __enter__(self) -> Self:
        """Listen; raises RunError where the path is taken or cannot be made."""
        self._listener = unix_socket.listen(self._path)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Close every connection and remove the socket file."""
        self._is_over = True
        _shut(self._listener)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for each in self._open:
                _shut(each)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, here: socket.socket) -> None:
        with here:
            self._keep(here)
            try:
                there = socket.create_connection((self._host, self._port), _CONNECT_TIMEOUT_S)
            except OSError:
                self._drop(here)  # to the client it looks as if nobody listened
                return
            with there:
                self._keep(there)
                unix_socket.join(here, there)
                self._drop(here)
                self._drop(there)

    def _keep(self, each: socket.socket) -> None:
        with self._lock:
            self._open.add(each)
            if self._is_over:
                _shut(each)

    def _drop(self, each: socket.socket) -> None:
        with self._lock:
            self._open.discard(each)


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
