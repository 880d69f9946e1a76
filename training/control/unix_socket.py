"""Unix-domain sockets at paths of any length, readable by their owner only; and what joins two
sockets of any kind."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rudder.training.errors import RunError

MAX_ADDRESS_BYTES = 100
"""The kernel takes 108 bytes, some systems 104."""
_RETRY_S = 0.005
_CHUNK_BYTES = 64 * 2**10


def listen(path: Path, *, backlog: int = 128) -> socket.socket:
    """A listening socket at `path`, mode 0600; a file that a dead process left is replaced.

    Raises RunError where the path is taken or cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        return _bind(path, backlog)
    except OSError as error:
        raise RunError(
            f"cannot listen on the control socket {path}: {error.strerror or error}",
            remedy="choose a folder on a local disk that you may write to:"
            " --run-dir of `rudder train`, RunOptions(folder=...) in a script",
        ) from None


def try_in(folder: Path) -> None:
    """Raise OSError unless the folder can hold a socket."""
    path = folder / f".try-{secrets.token_hex(4)}"
    _bind(path, 1).close()
    path.unlink()


def _bind(path: Path, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # before bind: never open to all
        with _address(path) as address:
            listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def connect(path: Path, *, timeout_s: float) -> socket.socket:
    """A connected socket; raises OSError where nobody listens, TimeoutError when it takes long."""
    deadline = time.monotonic() + timeout_s
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(timeout_s)
        with _address(path) as address:
            while time.monotonic() < deadline:
                try:
                    client.connect(address)
                except BlockingIOError:  # the listener's queue is full; the kernel does not wait
                    time.sleep(_RETRY_S)
                else:
                    return client
        raise TimeoutError
    except BaseException:
        client.close()
        raise


def join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways, until both ends say that nothing follows or either breaks."""
    for each in (one, other):
        each.settimeout(None)
    back = threading.Thread(target=_copy, args=(other, one), daemon=True)
    back.start()
    _copy(one, other)
    back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RunError(
            f"{path} exists and is no socket", remedy="remove it, or use another run-dir"
        )
    try:
        connect(path, timeout_s=1.0).close()
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            path.unlink(missing_ok=True)
            return
    raise RunError(
        f"another process listens on {path}", remedy="end that run, or use another run-dir"
    )


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path, or for a long one an alias through an open folder of this process."""
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
