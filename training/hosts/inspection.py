"""Inspects all machines of a run at once, before anything is started there.

`python -m rudder.training.hosts.inspection` on a machine says what it finds there, is told where
the others listen, and says which of them it does not reach.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, TypeVar

from pydantic import TypeAdapter, ValidationError

from rudder.training.doctor import Check, CheckState, checks_of_machine
from rudder.training.errors import RudderError
from rudder.training.hosts.host import check_address
from rudder.training.hosts.link import remedy_for
from rudder.training.hosts.machines import address_of
from rudder.training.hosts.names import Machine
from rudder.training.hosts.starters import no_ssh, ssh_command
from rudder.training.settings import Frozen
from rudder.training.versions import installed_versions

_MODULE = ("-P", "-m", "rudder.training.hosts.inspection")
_MAGIC = "rudder-inspection-1"
_CONNECT_SECONDS = 5.0
Item = TypeVar("Item")
Result = TypeVar("Result")


class Peer(Frozen):
    """Where a machine listens."""

    name: str
    address: str
    port: int


class Findings(Frozen):
    """What a machine says of itself. addresses: IPv4 addresses by network interface."""

    versions: dict[str, str]
    addresses: dict[str, tuple[str, ...]]
    port: int
    checks: tuple[Check, ...]


_PEERS: TypeAdapter[tuple[Peer, ...]] = TypeAdapter(tuple[Peer, ...])
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True)
class Inspection:
    """All checks of one machine."""

    machine: str
    checks: tuple[Check, ...]

    @property
    def worst(self) -> CheckState:
        """The state of its worst check."""
        states = {check.state for check in self.checks}
        return "fail" if "fail" in states else "warn" if "warn" in states else "ok"

    def found(self, name: str) -> str:
        """What a check has found; empty where it was not made."""
        return next((check.found for check in self.checks if check.name == name), "")


class _Visit:
    """The conversation with one machine."""

    def __init__(self, machine: Machine, command: Sequence[str], complaints: IO[bytes]) -> None:
        self.machine, self._complaints = machine, complaints
        self.checks: list[Check] = []
        self.peer: Peer | None = None
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
            )
        except FileNotFoundError:
            raise no_ssh(command[0]) from None

    def look(self) -> None:
        """Take in what the machine says of itself."""
        try:
            found = Findings.model_validate_json(self._answer())
        except (OSError, ValidationError):
            why = self._last_words()
            remedy = remedy_for(why, name=self.machine.name)
            self.checks.append(Check("reached", "fail", why, remedy))
            return
        self.checks += [Check("reached", "ok", "by ssh"), _versions(found), *found.checks]
        try:
            address = self.machine.address or address_of(found.addresses, self.machine.name)
            check_address(address, name=self.machine.name)
        except RudderError as error:
            self.checks.append(Check("address", "fail", error.message, error.remedy))
            return
        self.checks.append(Check("address", "ok", address))
        self.peer = Peer(name=self.machine.name, address=address, port=found.port)

    def try_others(self, peers: Sequence[Peer]) -> None:
        """Have the machine connect to the others."""
        others = tuple(each for each in peers if each.name != self.machine.name)
        if self.checks[0].state == "fail":
            return
        try:
            self._say(_PEERS.dump_json(others).decode())
            missed = _NAMES.validate_json(self._answer())
        except (OSError, ValidationError):
            self.checks.append(Check("network", "fail", self._last_words(), "run this again"))
            return
        found = f"{len(others) - len(missed)} of {len(others)} machines reached"
        if missed:
            remedy = "open all ports between the machines, or give other addresses in --hosts-file"
            found += f", not {', '.join(missed)}"
            self.checks.append(Check("network", "fail", found, remedy))
        else:
            self.checks.append(Check("network", "ok", found))

    def end(self) -> None:
        """Let the machine go."""
        with suppress(OSError):
            self._say("")
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        """The line after the magic word; before it a login shell may print anything."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().endswith(_MAGIC):
                return self._process.stdout.readline()
        raise OSError("no answer")

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ssh ended with exit code {self._process.returncode}"


def inspect(machines: Sequence[Machine], *, ssh: str, python: str | None) -> list[Inspection]:
    """Inspect all machines at the same time; one that cannot be reached is a finding.

    ssh, python: as for `over_ssh`. Raises MachineError where there is no such command here.
    """
    with ExitStack() as stack:
        visits = []
        for machine in machines:
            complaints = stack.enter_context(tempfile.TemporaryFile())
            command = ssh_command(machine, command=ssh, python=python, module=_MODULE)
            visits.append(_Visit(machine, command, complaints))
            stack.callback(visits[-1].end)
        _at_once(visits, _Visit.look)
        peers = [visit.peer for visit in visits if visit.peer is not None]
        _at_once(visits, lambda visit: visit.try_others(peers))
        return [Inspection(visit.machine.name, tuple(visit.checks)) for visit in visits]


def _versions(found: Findings) -> Check:
    here = installed_versions()
    wrong = [f"{name} {version}, here {here.get(name, 'none')}"
             for name, version in found.versions.items() if here.get(name) != version]  # fmt: skip
    if wrong:
        remedy = "install the same versions on all machines"
        return Check("versions", "fail", "; ".join(wrong), remedy)
    return Check("versions", "ok", "as here")


def _at_once(items: Sequence[Item], do: Callable[[Item], Result]) -> list[Result]:
    with ThreadPoolExecutor(max_workers=max(1, min(len(items), 64))) as pool:
        return list(pool.map(do, items))


# -- on the machine -----------------------------------------------------------------------------


def _unreached(peers: Sequence[Peer]) -> tuple[str, ...]:
    def is_reached(peer: Peer) -> bool:
        try:
            socket.create_connection((peer.address, peer.port), _CONNECT_SECONDS).close()
        except OSError:
            return False
        return True

    reached = _at_once(peers, is_reached)
    return tuple(peer.name for peer, is_there in zip(peers, reached, strict=True) if not is_there)


def main() -> None:
    """Say what this machine is like, and whom it reaches."""
    from rudder.training.hosts.agent import own_interfaces

    with socket.create_server(("", 0), backlog=512) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        findings = Findings(
            versions=installed_versions(),
            addresses=own_interfaces(),
            port=listener.getsockname()[1],
            checks=tuple(checks_of_machine()),
        )
        _print(findings.model_dump_json())
        if line := sys.stdin.readline().strip():
            _print(_NAMES.dump_json(_unreached(_PEERS.validate_json(line))).decode())
            sys.stdin.readline()  # the others may not have tried yet


def _print(line: str) -> None:
    sys.stdout.write(f"{_MAGIC}\n{line}\n")
    sys.stdout.flush()


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


if __name__ == "__main__":
    main()
