"""Free ports on addresses of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Sequence

from rudder.training.errors import MachineError

_SEARCHED = range(20000, 32000)
"""Below the range from which the kernel takes ports for outgoing connections."""
_ANYWHERE = "0.0.0.0"


def is_free(port: int, *, address: str) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def reserve_ports(count: int, *, addresses: Sequence[str], first: int | None) -> int:
    """First of `count` consecutive ports that are free on all addresses, and on every interface.

    Raises MachineError that names the port if `first` is given and one of them is taken.
    """
    if first is None:
        return _search(count, addresses)
    for port in range(first, first + count):
        if taken := _taken(port, addresses):
            raise MachineError(
                f"port {port} is in use on {taken}; the run needs ports {first} to"
                f" {first + count - 1}",
                remedy=f"see who has it with `ss -ltnp 'sport = :{port}'`, or leave out --port",
            )
    return first


def _search(count: int, addresses: Sequence[str]) -> int:
    starts = random.sample(_SEARCHED[: len(_SEARCHED) - count], k=200)
    for start in starts:
        if not any(_taken(port, addresses) for port in range(start, start + count)):
            return start
    raise MachineError(
        f"no {count} consecutive free ports between {_SEARCHED.start} and {_SEARCHED.stop}",
        remedy="stop some of the servers on this machine (`ss -ltn` lists them)",
    )


def _taken(port: int, addresses: Iterable[str]) -> str | None:
    for address in (*addresses, _ANYWHERE):
        if not is_free(port, address=address):
            return "this machine" if address == _ANYWHERE else address
    return None
