"""One DistDGL graph server, from loading its partition to the trainers' goodbye."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dgl
from dgl.distributed import rpc, rpc_server

from rudder.training.errors import DataError
from rudder.training.job import Job
from rudder.training.machine import as_machine_error

_LONGEST_SLEEP_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.002
_LISTEN = "0A"
"""State of a listening socket in the kernel's table."""


def serve(job: Job, *, host: int, on_listening: Callable[[], None]) -> None:
    """Load the host's partition, listen, serve; returns when the trainers have said goodbye.

    Raises DataError for a partition that DGL cannot load.
    """
    is_loaded = _announce(on_listening)
    _shorten_sleeps()
    try:
        dgl.distributed.initialize(str(job.ip_config))
    except SystemExit:
        return
    except Exception as error:
        if is_loaded() or as_machine_error(error) is not None:
            raise
        raise DataError(
            f"partition {host} in {job.graph.directory} cannot be loaded: {error}",
            remedy="prepare the graph again into a new folder (`rudder prepare`)",
        ) from error


def _announce(on_listening: Callable[[], None]) -> Callable[[], bool]:
    """Call `on_listening` when clients can connect; the result says if the partition is loaded.

    DGL says nothing, and would count a probe of the port as one of its clients. A client that
    comes too early tries again 3 s later.
    """
    wait = rpc.wait_for_senders
    is_loaded = False

    def announce(address: str, port: int) -> None:
        until = time.monotonic() + _LONGEST_WAIT_SECONDS
        while not is_listening(address, port) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        on_listening()

    def wait_for_senders(address: str, port: int, num_senders: int) -> None:
        nonlocal is_loaded
        is_loaded = True
        threading.Thread(target=announce, args=(address, port), daemon=True).start()
        wait(address, port, num_senders)

    rpc.wait_for_senders = wait_for_senders
    return lambda: is_loaded


def is_listening(address: str, port: int, *, table: Path = Path("/proc/self/net/tcp")) -> bool:
    """Whether a TCP socket listens there; asks the kernel's table, so that nobody is connected."""
    wanted = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == _LISTEN for row in rows)


def _shorten_sleeps() -> None:
    """Let the server connect back to its clients sooner than 3 s after they have all come.

    A client listens a few ms after it has registered. Should one be slower, the connection is
    tried again 3 s later, as without this.
    """
    rpc_server.time = SimpleNamespace(
        sleep=lambda seconds: time.sleep(min(seconds, _LONGEST_SLEEP_SECONDS))
    )
