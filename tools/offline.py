"""While decisions are replayed, every attempt to use a socket raises an error."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from rudder.training.errors import RudderError

_METHODS = ("__init__", "connect", "connect_ex", "bind")


class SocketOpenedError(RudderError):
    """A replay tried to use a socket."""

    def __init__(self) -> None:
        super().__init__(
            "a recorded replay asked for a socket",
            remedy="report it: a recorded decision needs no answer from outside",
        )


class _Guard:
    """Puts a refusal in place of the methods of Python's socket class, whatever name a library
    has imported it by, and takes it away again. It is no audit hook of Python: such a hook stays
    for the process's life, and debuggers and coverage tools then fail in new threads."""

    def __init__(self) -> None:
        self.attempts = 0
        self._lock = threading.Lock()
        self._depth = 0
        self._lookup = socket.getaddrinfo
        self._own = {name: vars(socket.socket).get(name) for name in _METHODS}

    def enter(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth > 1:
                return
            for name in _METHODS:
                setattr(socket.socket, name, self._refuse)
            socket.getaddrinfo = self._refuse

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth:
                return
            for name, method in self._own.items():
                if method is None:  # inherited
                    delattr(socket.socket, name)
                else:
                    setattr(socket.socket, name, method)
            socket.getaddrinfo = self._lookup

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        self.attempts += 1
        raise SocketOpenedError


_guard = _Guard()


@contextlib.contextmanager
def no_sockets() -> Iterator[None]:
    """In all threads no Python code may open, connect or bind a socket, or ask for an address.

    An attempt raises SocketOpenedError where it is made; where that was swallowed there, it is
    raised again at the end. A connection that was open before is not looked at.
    """
    _guard.enter()
    before = _guard.attempts
    try:
        yield
    finally:
        _guard.leave()
    if _guard.attempts > before:
        raise SocketOpenedError
