"""Hosts on one machine: network namespaces if the machine allows them, else the loopback.

Namespaces (Linux) give each host a network and a /dev/shm, as separate machines have them. They
need no root where the kernel gives users their own (`unshare -U`): one is for the cluster, with a
bridge, and one per host, connected to the bridge by a veth pair. No namespace has a name, so all of
them end with the last process inside.

Without namespaces the hosts have addresses in 127.0.0.0/8 and share one /dev/shm. Each run claims a
pair of bytes x.y: its hosts are 127.x.y.1, 127.x.y.2, ... and its segments begin with
`rudder.x.y.` (see `shared_memory`).
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Cluster, Holder, Host, Network, reserve_ports
from rudder.training.hosts.shared_memory import SHM_FOLDER, Claim, sweep

_log = logging.getLogger(__name__)
_TRIES = 100
_SUBNET = "10.77.0"
INTERFACE = "eth0"
_BRIDGE = "rudder"
_FIRST_PORT = 30050
_TOOLS = ("unshare", "nsenter", "mount", "ip", "tc")
_SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/bin:/bin"
"""Searched after PATH: a user's PATH often lacks the folders of `ip` and `tc`."""
Wish = Literal["auto", "namespace", "loopback"]


class LoopbackCluster(Cluster):
    """Hosts `host0`, `host1`, ... that share this machine's network and shared memory."""

    network: Network = "loopback"

    def _start(self, stack: ExitStack) -> tuple[Host, ...]:
        claim = stack.enter_context(claim_shared_memory())
        self.shm_prefix = claim.prefix
        return tuple(
            Host(
                name=f"host{index}",
                address=f"127.{claim.name}.{index + 1}",
                interface="lo",
                num_cores=self._cores_per_host,
            )
            for index in range(self._num_hosts)
        )

    def reserve_ports(self, count: int, *, first: int | None) -> int:
        """Ports that are free on the addresses of this run and on all interfaces."""
        addresses = [host.address for host in self.hosts]
        return reserve_ports(count, addresses=addresses, first=first)


@contextmanager
def claim_shared_memory() -> Iterator[Claim]:
    """Hold a claim; its segments are removed at the end, also when this process is killed.

    What killed runs of this user have left is removed first.
    """
    with ExitStack() as stack:
        try:
            sweep()
            claim = _claim_any()
            stack.callback(claim.release)
            stack.callback(_janitor(claim).close)
        except OSError as error:
            raise MachineError(
                f"{SHM_FOLDER} cannot be written: {error.strerror}",
                remedy=f"mount a tmpfs on {SHM_FOLDER} and make it writable for this user",
            ) from None
        yield claim


def _claim_any() -> Claim:
    for _ in range(_TRIES):
        claim = Claim(f"{random.randint(1, 254)}.{random.randint(0, 255)}")
        if claim.take():
            return claim
    raise MachineError(
        f"no free address among 127.*.*.* after {_TRIES} tries",
        remedy="end other runs on this machine, or remove /dev/shm/rudder.*",
    )


def _janitor(claim: Claim) -> Holder:
    """Removes the segments when this process is killed, after its children are gone."""
    return Holder("true", str(claim.pattern), after='sleep 1; rm -f -- "$1"*')


@dataclass(frozen=True)
class _Way:
    """Options that create and enter namespaces, for root of the machine or of a user namespace."""

    unshare: tuple[str, ...]
    nsenter: tuple[str, ...]


_AS_ROOT = _Way(unshare=(), nsenter=())
_AS_USER = _Way(unshare=("--user", "--map-root-user"), nsenter=("--user", "--preserve-credentials"))


class NamespaceCluster(Cluster):
    """Hosts `host0`, `host1`, ... with the addresses 10.77.0.1, 10.77.0.2, ...

    rate: what each host may send, as `tc` writes it (200mbit); None leaves the link unlimited.
    Raises MachineError on entry where the machine refuses, with the reason and the remedy.
    """

    network: Network = "namespace"

    def __init__(self, *, num_hosts: int, rate: str | None = None) -> None:
        super().__init__(num_hosts=num_hosts)
        self._rate = rate

    def _start(self, stack: ExitStack) -> tuple[Host, ...]:
        tools = _find_tools()
        way, root = _start_cluster(tools)
        stack.callback(root.close)
        cluster = _Namespace(root.pid, way, tools)
        cluster.configure("ip", [f"link add {_BRIDGE} type bridge", f"link set {_BRIDGE} up"])
        return tuple(self._start_host(cluster, index, stack) for index in range(self._num_hosts))

    def reserve_ports(self, count: int, *, first: int | None) -> int:
        """Only this run uses the namespaces, so every port is free."""
        del count
        return _FIRST_PORT if first is None else first

    def _start_host(self, cluster: _Namespace, index: int, stack: ExitStack) -> Host:
        tools, address = cluster.tools, f"{_SUBNET}.{index + 1}"
        holder = Holder(
            f"{tools['mount']} -t tmpfs -o size=100% tmpfs /dev/shm",
            prefix=(*cluster.prefix, tools["unshare"], "--mount", "--net"),
        )
        stack.callback(holder.close)
        host = _Namespace(holder.pid, cluster.way, tools)
        cable = f"host{index}"
        cluster.configure(
            "ip",
            [
                f"link add {cable} type veth peer name {INTERFACE} netns {holder.pid}",
                f"link set {cable} master {_BRIDGE} up",
            ],
        )
        host.configure(
            "ip",
            [
                "link set lo up",
                f"addr add {address}/24 dev {INTERFACE}",
                f"link set {INTERFACE} up",
            ],
        )
        if self._rate is not None:
            host.configure("tc", [f"qdisc add dev {INTERFACE} root {shape_of(self._rate)}"])
        return Host(
            name=cable,
            address=address,
            interface=INTERFACE,
            num_cores=self._cores_per_host,
            prefix=host.prefix,
        )


@dataclass(frozen=True)
class _Namespace:
    """The namespaces of a holder, and how to start a command in them."""

    holder: int
    way: _Way
    tools: dict[str, str]

    @property
    def prefix(self) -> tuple[str, ...]:
        target = f"--target={self.holder}"
        return (self.tools["nsenter"], target, *self.way.nsenter, "--mount", "--net", "--wd")

    def configure(self, tool: str, lines: Sequence[str]) -> None:
        """Feed lines to `ip` or `tc` inside; raises MachineError with what it says."""
        answer = subprocess.run(
            [*self.prefix, self.tools[tool], "-batch", "-"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            reason = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
            raise MachineError(
                f"no network between namespaces: `{tool}`: {reason[0]}",
                remedy="load the kernel modules bridge, veth and sch_tbf, or use"
                " --network loopback (which cannot limit the rate)",
            )


def shape_of(rate: str) -> str:
    """What `tc qdisc` is told, so that an interface sends at this rate."""
    return f"tbf rate {rate} burst 256kb latency 200ms"


def _find_tools() -> dict[str, str]:
    path = os.pathsep.join([os.environ.get("PATH", ""), _SYSTEM_FOLDERS])
    found = {tool: shutil.which(tool, path=path) for tool in _TOOLS}
    if missing := [tool for tool, place in found.items() if place is None]:
        raise MachineError(
            f"namespaces need the commands {', '.join(missing)}",
            remedy="install util-linux, mount and iproute2, or use --network loopback",
        )
    return {tool: place for tool, place in found.items() if place is not None}


def _start_cluster(tools: dict[str, str]) -> tuple[_Way, Holder]:
    """Start the namespace of the cluster in the first way that the kernel allows."""
    refusal = ""
    for way in (_AS_ROOT, _AS_USER) if os.geteuid() == 0 else (_AS_USER,):
        prefix = (tools["unshare"], *way.unshare, "--mount", "--net")
        try:
            return way, Holder(f"{tools['mount']} -t tmpfs tmpfs /dev/shm", prefix=prefix)
        except MachineError as error:
            refusal = error.message
    raise MachineError(f"this machine refuses namespaces: {refusal}", remedy=_remedy())


def _remedy() -> str:
    """The setting that forbids namespaces, as far as the kernel tells."""
    loopback = "or use --network loopback (which cannot limit the rate)"
    for name, open_value in (
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
        ("kernel/unprivileged_userns_clone", "1"),
        ("user/max_user_namespaces", "10000"),
    ):
        file = Path("/proc/sys") / name
        if not file.exists():
            continue
        value = file.read_text().strip()
        is_closed = value == "0" if open_value != "0" else value != "0"
        if is_closed:
            return f"`sudo sysctl {name.replace('/', '.')}={open_value}`, {loopback}"
    return f"start the container with --cap-add SYS_ADMIN --cap-add NET_ADMIN, {loopback}"


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
