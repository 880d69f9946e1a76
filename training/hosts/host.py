"""A host can start commands; a cluster lends hosts for the time of a run."""

from __future__ import annotations

import ipaddress
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Self

from rudder.training.errors import MachineError

Network = Literal["namespace", "loopback"]


@dataclass(frozen=True)
class Host:
    """One host of a run: it has an address of its own, and commands can be started on it.

    `prefix` goes before a command (`nsenter ...` here, `ssh host` or `srun ...` elsewhere), and
    must end as the command itself: signals and exit codes are the command's.
    `interface` is the network interface that carries `address`; `num_cores` this host's share.
    """

    name: str
    address: str
    interface: str
    num_cores: int
    prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an address that strangers can reach; raises MachineError."""
        refuse_public_address(self.address, name=self.name)

    def command(self, argv: Sequence[str], *, variables: Mapping[str, str]) -> list[str]:
        """The command line that runs `argv` on this host with these environment variables."""
        settings = [f"{name}={value}" for name, value in variables.items()]
        return [*self.prefix, "env", *settings, *argv]


class Cluster(ABC):
    """Lends local hosts within its `with` block, and leaves nothing behind.

    network: what lies between the hosts; hosts: in the order of partitions; shm_prefix: what
    names of shared memory must begin with, empty where each host has a /dev/shm of its own.
    """

    network: Network
    shm_prefix = ""

    def __init__(self, *, num_hosts: int) -> None:
        """Nothing is started before the `with` block."""
        self._num_hosts = num_hosts
        self._stack = ExitStack()
        self.hosts: tuple[Host, ...] = ()

    @abstractmethod
    def reserve_ports(self, count: int, *, first: int | None) -> int:
        """First of `count` consecutive ports that are free on every host.

        Raises MachineError that names the port if `first` is given and one of them is taken.
        """

    @abstractmethod
    def _start(self, stack: ExitStack) -> tuple[Host, ...]:
        """Start the hosts; the stack ends them."""

    @property
    def _cores_per_host(self) -> int:
        return max(1, len(os.sched_getaffinity(0)) // self._num_hosts)

    def __enter__(self) -> Self:
        """Start the hosts; raises MachineError where the machine cannot have them."""
        with ExitStack() as stack:
            self.hosts = self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """End the hosts."""
        self.hosts = ()
        self._stack.close()


def refuse_public_address(address: str, *, name: str) -> None:
    """Raise MachineError unless `address` is a loopback, private or link-local one.

    DistDGL unpickles what arrives on its ports: whoever can reach them can run code.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise MachineError(
            f"{name} has the address {address!r}, which is not an IP address",
            remedy="name hosts by their IPv4 address in the private network",
        ) from None
    if parsed.is_global or parsed.is_unspecified or parsed.is_multicast:
        raise MachineError(
            f"{name} has the public address {address}; DistDGL runs code for whoever reaches it",
            remedy="use addresses of a private network (10.*, 172.16-31.*, 192.168.*)",
        )
