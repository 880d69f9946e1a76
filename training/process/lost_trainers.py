"""Ends a graph server of one's own script when it has lost all of its trainers.

DGL's server waits for requests for ever, also after its trainers were killed, and keeps its
partition in shared memory. Servers of `rudder train` end with their launcher instead.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache

from dgl.distributed import rpc

from rudder.training.errors import complain
from rudder.training.wire.tcp import connections_of_this_process

_CHECK_SECONDS = 5.0
_CHECKS = 4
"""So often in a row no trainer may be connected."""


@cache
def end_without_trainers(clean_up: Callable[[], None]) -> None:
    """Let this process, if it is a server, end when its trainers are gone; call it before
    `dgl.distributed.initialize`."""
    if os.environ.get("DGL_ROLE") != "server":
        return
    wait = rpc.wait_for_senders

    def wait_for_senders(address: str, port: int, num_senders: int) -> None:
        wait(address, port, num_senders)
        threading.Thread(target=_watch, args=(port, clean_up), daemon=True).start()

    rpc.wait_for_senders = wait_for_senders


def _watch(port: int, clean_up: Callable[[], None]) -> None:
    """A trainer that has ended in any way has closed its connection to the server's port."""
    missing = 0
    while missing < _CHECKS:
        time.sleep(_CHECK_SECONDS)
        is_there = any(each.own.port == port for each in connections_of_this_process())
        missing = 0 if is_there else missing + 1
    complain("rudder: all trainers of this server are gone, so it ends")
    clean_up()
    os._exit(1)
