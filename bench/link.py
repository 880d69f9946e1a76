"""Changes the rate of the links between the hosts of a running job."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from rudder.training.errors import MachineError
from rudder.training.hosts.local import INTERFACE, shape_of
from rudder.training.job import HOST_VARIABLE

_OWN_USERS = Path("/proc/self/ns/user")


def change_rate(rate: str) -> None:
    """Limit every host of the job that this process launched to `rate` (200mbit) from now on.

    Raises MachineError if the job's hosts have no network with a limited rate of their own.
    """
    hosts = dict(_hosts())
    if not hosts:
        raise MachineError("no job is running here", remedy="change the rate while one does")
    for process in hosts.values():
        _shape(process, rate)


def _hosts() -> Iterator[tuple[str, psutil.Process]]:
    """The number of each host, with a process in its namespace; one pair per process."""
    for process in psutil.Process().children(recursive=True):
        try:
            host = process.environ().get(HOST_VARIABLE)
        except psutil.Error:
            continue
        if host is not None:
            yield host, process


def _shape(process: psutil.Process, rate: str) -> None:
    users = Path(f"/proc/{process.pid}/ns/user")
    is_ours = users.readlink() == _OWN_USERS.readlink()
    way = () if is_ours else ("--user", "--preserve-credentials")
    command = ["nsenter", f"--target={process.pid}", *way, "--mount", "--net", _tc()]
    answer = subprocess.run(
        [*command, "qdisc", "change", "dev", INTERFACE, "root", *shape_of(rate).split()],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise MachineError(
            f"the rate of a host's link cannot be changed: {answer.stderr.strip()}",
            remedy="start the job with --rate, on a machine with namespaces",
        )


def _tc() -> str:
    found = shutil.which("tc") or shutil.which("tc", path="/usr/sbin:/sbin")
    if found is None:
        raise MachineError("there is no command tc", remedy="install iproute2")
    return found
