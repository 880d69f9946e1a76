"""A host can start commands; a cluster lends hosts for the time of a run."""

from __future__ import annotations

import ipaddress
import os
import random
import select
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from rudder.training.errors import MachineError
from rudder.training.hosts.host_process import HostProcess, LocalProcess
from rudder.training.hosts.shared_memory import SHM_FOLDER
from rudder.training.job import Job
from rudder.training.machine import available_memory_bytes, kills_for_memory

_READY = "ready"
_WAIT = f"echo {_READY} && exec cat > /dev/null"
_SEARCHED = range(20000, 32000)
"""Below the range from which the kernel takes ports for outgoing connections."""
_ANYWHERE = "0.0.0.0"
Network = Literal["namespace", "loopback", "machines"]


class Holder:
    """A shell that has run `script` and then waits for the end of its standard input.

    Nobody but this process holds the other end, so the kernel ends the holder even when this
    process is killed; `after` is a shell command that the holder runs then.
    """

    def __init__(
        self,
        script: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        after: str = "",
        timeout_seconds: float = 20.0,
    ) -> None:
        ears = "trap '' HUP INT TERM"  # a scheduler sends one to all, and then kills
        wait = f"{ears}; echo {_READY} && cat > /dev/null; {after}" if after else _WAIT
        self._process = subprocess.Popen(
            [*prefix, "sh", "-c", f"{script} && {wait}", "holder", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if not self._is_ready(timeout_seconds):
            raise MachineError(self._complaint(), remedy="see `rudder doctor`")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def close(self) -> None:
        """End the holder at once, without its `after`."""
        self._kill()

    def _is_ready(self, timeout_seconds: float) -> bool:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_seconds)
        return bool(readable) and self._process.stdout.readline().strip() == _READY

    def _complaint(self) -> str:
        lines = self._kill().strip().splitlines()
        return lines[-1] if lines else "no answer in time"

    def _kill(self) -> str:
        """End the shell and what it has started; returns their standard error."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.communicate()[1]


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


@dataclass(frozen=True)
class Host:
    """One host of a run: it has an address of its own, and commands can be started on it.

    `prefix` goes before a command (`nsenter ...` here, `ssh host` or `srun ...` elsewhere), and
    must end as the command itself: signals and exit codes are the command's.
    `interface` is the network interface that carries `address`; `num_cores` this host's share;
    `may_be_public`: the user answers for an address that strangers can reach.
    """

    name: str
    address: str
    interface: str
    num_cores: int
    prefix: tuple[str, ...] = ()
    may_be_public: bool = False

    def __post_init__(self) -> None:
        """Refuse an address that strangers can reach; raises MachineError."""
        check_address(self.address, name=self.name, may_be_public=self.may_be_public)

    @property
    def machine(self) -> str:
        """Name of its machine; empty for this one, which all local hosts share."""
        return ""

    def command(self, argv: Sequence[str], *, variables: Mapping[str, str]) -> list[str]:
        """The command line that runs `argv` on this host with these environment variables."""
        settings = [f"{name}={value}" for name, value in variables.items()]
        return [*self.prefix, "env", *settings, *argv]

    def start(self, argv: Sequence[str], *, variables: Mapping[str, str], log: Path) -> HostProcess:
        """Run `argv` on this host; standard error goes to `log` on the launcher's disk."""
        return LocalProcess(self.command(argv, variables=variables), log=log)

    def memory_kills(self) -> int:
        """Processes that the machine's kernel has killed for memory so far."""
        return kills_for_memory()


@dataclass(frozen=True)
class Room:
    """Free memory of a machine, the part of it that may be shared, and the partitions it is for."""

    name: str
    parts: range
    memory_bytes: int
    shm_bytes: int


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

    def rooms(self) -> list[Room]:
        """Memory that is free for the partitions: here all of them are on this machine."""
        memory = available_memory_bytes()
        shared = shutil.disk_usage(SHM_FOLDER).free if self.network == "loopback" else memory
        return [Room("this machine", range(self._num_hosts), memory, shared)]

    def hand_over(self, job: Job) -> list[Job]:
        """Give each host what the job needs there; returns the job as each host sees it."""
        return [job] * len(self.hosts)

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


def check_address(address: str, *, name: str, may_be_public: bool = False) -> None:
    """Raise MachineError unless `address` is a loopback, private or link-local one.

    may_be_public: the user says that no stranger reaches it.

    DistDGL unpickles what arrives on its ports: whoever can reach them can run code.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise MachineError(
            f"{name} has the address {address!r}, which is not an IP address",
            remedy="name hosts by their IPv4 address in the private network",
        ) from None
    if parsed.is_unspecified or parsed.is_multicast or (parsed.is_global and not may_be_public):
        raise MachineError(
            f"{name} has the public address {address}. DistDGL unpickles what arrives at its"
            " ports, so whoever reaches this address can run code as you while the run goes on",
            remedy="use addresses of a private network (10.*, 172.16-31.*, 192.168.*); if a"
            " firewall lets nobody but these machines through, --allow-public-addresses",
        )
