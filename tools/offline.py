"""While decisions are replayed, every attempt to use a socket raises an error."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rudder.training.errors import RudderError

_EVENTS = frozenset({"socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.bind"})


class SocketOpenedError(RudderError):
    """A replay tried to use a socket."""

    def __init__(self) -> None:
        super().__init__(
            "a recorded replay asked for a socket",
            remedy="report it: a recorded decision needs no answer from outside",
        )


class _Hook:
    """Python's own audit hook, which no import gets around; it stays for the process's life, and
    does nothing outside `no_sockets`."""

    def __init__(self) -> None:
        self._is_installed = False
        self.depth = 0
        self.attempts = 0
        self.lock = threading.Lock()

    def install(self) -> None:
        if not self._is_installed:
            self._is_installed = True
            sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if self.depth and event in _EVENTS:
            self.attempts += 1
            raise SocketOpenedError


_hook = _Hook()


@contextlib.contextmanager
def no_sockets() -> Iterator[None]:
    """In all threads nothing may open, connect or bind a socket, or ask for an address.

    An attempt raises SocketOpenedError where it is made; where that was swallowed there, it is
    raised again at the end.
    """
    with _hook.lock:
        _hook.install()
        _hook.depth += 1
        before = _hook.attempts
    try:
        yield
    finally:
        with _hook.lock:
            _hook.depth -= 1
            attempts = _hook.attempts - before
    if attempts:
        raise SocketOpenedError
