"""Opens a run's local cluster: network namespaces if the machine allows them, else loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Cluster
from rudder.training.hosts.loopback import LoopbackCluster
from rudder.training.hosts.namespaces import NamespaceCluster

_log = logging.getLogger(__name__)
Wish = Literal["auto", "namespace", "loopback"]


@contextmanager
def open_cluster(wish: Wish, *, num_hosts: int, rate: str | None = None) -> Iterator[Cluster]:
    """Lend `num_hosts` local hosts; `auto` logs a warning if it has to use loopback.

    Raises MachineError where the machine lacks what was asked for; a rate needs namespaces.
    """
    with ExitStack() as stack:
        if wish == "loopback":
            yield stack.enter_context(_loopback(num_hosts, rate))
            return
        try:
            cluster: Cluster = stack.enter_context(NamespaceCluster(num_hosts=num_hosts, rate=rate))
        except MachineError as refusal:
            if wish == "namespace" or rate is not None:
                raise
            _log.warning(
                "%s; the hosts share 127.0.0.0/8 instead (to have namespaces: %s)",
                refusal.message,
                refusal.remedy,
            )
            cluster = stack.enter_context(_loopback(num_hosts, rate))
        yield cluster


def _loopback(num_hosts: int, rate: str | None) -> LoopbackCluster:
    if rate is not None:
        raise MachineError(
            f"the rate {rate} needs a link between the hosts, and loopback has none",
            remedy="use --network namespace, or leave out --rate",
        )
    return LoopbackCluster(num_hosts=num_hosts)
