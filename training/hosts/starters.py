"""Ways to start the agents of a job's hosts: over ssh, as one Slurm step, or by whoever runs them.

Each yields one stream per host. An agent that is started by a scheduler connects to the launcher,
and says the run's token first.
"""

from __future__ import annotations

import hmac
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import psutil

from rudder.training.errors import ConfigError, MachineError
from rudder.training.hosts.link import Stream
from rudder.training.hosts.messages import TOKEN_VARIABLE
from rudder.training.hosts.names import Machine

HEAD_VARIABLE = "RUDDER_HEAD"
RANK_VARIABLE = "RUDDER_NODE_RANK"
AGENT = ("-P", "-m", "rudder.training.hosts.agent")
"""Arguments of Python: the agent of a host."""
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=5",
                "-o", "ServerAliveCountMax=4", "-T")  # fmt: skip
_LONGEST_TOKEN = 256
_TOKEN_SECONDS = 10.0


@contextmanager
def over_ssh(
    machines: Sequence[Machine], *, command: str, python: str | None
) -> Iterator[list[Stream]]:
    """One ssh for each machine.

    command: `ssh` with the options that a user wants; python: the interpreter on the machines,
    None: the same path as here.
    """
    with ExitStack() as stack:
        yield [
            _piped(
                ssh_command(machine, command=command, python=python, module=AGENT),
                complaints=stack.enter_context(tempfile.TemporaryFile()),
            )
            for machine in machines
        ]


def ssh_command(
    machine: Machine, *, command: str, python: str | None, module: Sequence[str]
) -> list[str]:
    """The command line that runs a module of Rudder on a machine; see `over_ssh`."""
    there = shlex.join([python or sys.executable, *module])
    return [*shlex.split(command), *_SSH_OPTIONS, machine.name, f"exec {there}"]


def _piped(command: Sequence[str], *, complaints: IO[bytes]) -> Stream:
    """The stream of an agent that speaks over the standard input and output of `command`.

    complaints: file for its standard error.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise no_ssh(command[0]) from None
    assert process.stdin is not None
    assert process.stdout is not None

    def close() -> None:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return Stream(
        process.stdout, process.stdin, close, lambda: _last_words(command[0], process, complaints)
    )


def no_ssh(command: str) -> MachineError:
    """The error where the command that is to reach machines is not there."""
    return MachineError(
        f"there is no command {command}",
        remedy="install an ssh client, or name another one with --ssh",
    )


def _last_words(name: str, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{name} ended with exit code {process.returncode}"


class AgentListener:
    """Where agents connect to that a scheduler starts; knows them by the run's token."""

    def __init__(self, *, token: str | None, port: int = 0) -> None:
        """token: None makes one; port: 0 takes a free one."""
        self.token = token or secrets.token_urlsafe(32)
        self._listener = socket.create_server(("", port), backlog=512)
        self.port = int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def accept(self, count: int, *, timeout_s: float) -> list[Stream]:
        """Streams of `count` agents in the order in which they come; raises MachineError."""
        found: list[Stream] = []
        until = time.monotonic() + timeout_s
        while len(found) < count:
            self._listener.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                raise MachineError(
                    f"{len(found)} of {count} hosts have come within {timeout_s:g} s",
                    remedy="see what the scheduler says of the others, or give them longer with"
                    " --start-timeout",
                ) from None
            if self._knows_token(connection):
                found.append(_connected(connection))
            else:
                connection.close()
        return found

    def _knows_token(self, connection: socket.socket) -> bool:
        connection.settimeout(_TOKEN_SECONDS)
        said = b""
        with suppress(OSError):
            while not said.endswith(b"\n") and len(said) < _LONGEST_TOKEN:
                if not (byte := connection.recv(1)):
                    break
                said += byte
        connection.settimeout(None)
        return hmac.compare_digest(said.strip(), self.token.encode())


def _connected(connection: socket.socket) -> Stream:
    def close() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    reader, writer = connection.makefile("rb"), connection.makefile("wb")
    return Stream(reader, writer, close, lambda: "its agent has closed the connection")


@contextmanager
def by_environment(count: int, *, timeout_s: float) -> Iterator[list[Stream]]:
    """The agent of this machine, and those that a scheduler starts on the others.

    They connect to RUDDER_HEAD, which is this machine.
    """
    place = NodePlace.from_environment(os.environ)
    if place is None:
        raise ConfigError.for_field(
            HEAD_VARIABLE, value="", allowed="ADDRESS:PORT of the first host, on every host"
        )
    with ExitStack() as stack:
        head = AgentListener(token=place.token, port=int(place.head.rpartition(":")[2]))
        stack.callback(head.close)
        own = [sys.executable, *AGENT, "--head", f"127.0.0.1:{head.port}"]
        agent = subprocess.Popen(own, start_new_session=True)
        stack.callback(_end_step, agent)
        yield head.accept(count, timeout_s=timeout_s)


@contextmanager
def by_slurm(count: int, *, timeout_s: float) -> Iterator[list[Stream]]:
    """One `srun` step with one agent on each node of this allocation."""
    with ExitStack() as stack:
        head = AgentListener(token=None)
        stack.callback(head.close)
        address = f"{','.join(own_addresses())}:{head.port}"
        command = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
                   "--kill-on-bad-exit=0", "--overlap", "--input=none",
                   sys.executable, *AGENT, "--head", address]  # fmt: skip
        variables = {**os.environ, TOKEN_VARIABLE: head.token}
        try:
            step = subprocess.Popen(command, env=variables, start_new_session=True)
        except FileNotFoundError:
            raise MachineError(
                "there is no command srun", remedy="name the machines with --hosts a,b,c instead"
            ) from None
        stack.callback(_end_step, step)
        yield head.accept(count, timeout_s=timeout_s)


def _end_step(step: subprocess.Popen[bytes]) -> None:
    """Agents end by themselves when their streams do; srun is told after a while."""
    try:
        step.wait(10)
    except subprocess.TimeoutExpired:
        step.terminate()
        step.wait()


def own_addresses() -> list[str]:
    """The addresses by which other machines may reach this one; that of its name is the first."""
    found = [
        each.address
        for name, all_of in psutil.net_if_addrs().items()
        for each in all_of
        if each.family is socket.AF_INET and not each.address.startswith("127.")
    ]
    named: list[str] = []
    with suppress(OSError):
        named = socket.gethostbyname_ex(socket.gethostname())[2]
    return sorted(found, key=lambda address: address not in named) or ["127.0.0.1"]


@dataclass(frozen=True)
class NodePlace:
    """What a scheduler says of this process: its place among the hosts, and where the first is."""

    rank: int
    head: str
    token: str

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> NodePlace | None:
        """Read RUDDER_HEAD, RUDDER_TOKEN and the rank; None where there is no RUDDER_HEAD.

        The rank is RUDDER_NODE_RANK, or what a Kubernetes indexed Job, Open MPI, Slurm or torchrun
        say. Raises ConfigError for a value that is missing or none.
        """
        head = variables.get(HEAD_VARIABLE)
        if head is None:
            return None
        names = (RANK_VARIABLE, "JOB_COMPLETION_INDEX", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID",
                 "GROUP_RANK")  # fmt: skip
        rank = next((variables[name] for name in names if name in variables), "")
        address, _, port = head.rpartition(":")
        for name, value, is_right, allowed in (
            (HEAD_VARIABLE, head, bool(address) and port.isdecimal(), "ADDRESS:PORT"),
            (RANK_VARIABLE, rank, rank.isdecimal(), "a number from 0"),
            (TOKEN_VARIABLE, "", bool(variables.get(TOKEN_VARIABLE)), "a secret of the job"),
        ):
            if not is_right:
                raise ConfigError.for_field(
                    name,
                    value=value,
                    allowed=allowed,
                    remedy=f"set {HEAD_VARIABLE}, {RANK_VARIABLE} and {TOKEN_VARIABLE} on every"
                    " host",
                )
        return cls(rank=int(rank), head=head, token=variables[TOKEN_VARIABLE])
