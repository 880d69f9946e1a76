"""Machines as a user names them: on the command line, or in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rudder.training.errors import ConfigError

_MACHINE = re.compile(r"^[A-Za-z0-9_][\w.@:-]*(\s+[\d.]+)?$")


@dataclass(frozen=True)
class Machine:
    """A machine as the user names it. address: to be used between hosts; None: found out."""

    name: str
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Machine:
        """Read `NAME` or `NAME ADDRESS`."""
        return cls(*text.split(maxsplit=1))


def hosts_in(file: Path) -> str:
    """Read a hosts file as a value of `hosts`: a line is `NAME` or `NAME ADDRESS`; # begins a
    comment. Raises ConfigError."""
    try:
        lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"hosts_file {file} cannot be read: {error}", remedy="check the path"
        ) from None
    return ",".join(line for line in lines if line)


def to_machines(value: object) -> object:
    """Read NAME,NAME; raises ValueError for a name that is none."""
    names = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, list | tuple):
        wrong = [each for each in names if not _MACHINE.match(str(each))]
        if wrong or len(set(names)) < len(names):
            raise ValueError("give the names of different machines: node4,node5")
        return tuple(names)
    return value


def check_hosts(
    launcher: str, machines: Sequence[str], *, hosts: int, spares: Sequence[str]
) -> None:
    """Raise ValueError where what starts the hosts and the machines do not fit together."""
    if (launcher == "ssh") != bool(machines):
        raise ValueError("launcher ssh and the names of machines belong together")
    if machines and len(machines) != hosts:
        raise ValueError(f"hosts is {hosts}, but {len(machines)} machines are named")
    if spares and not machines:
        raise ValueError("spare_hosts are for runs with --hosts node1,node2 or --hosts-file")


def machine_settings(names: Iterable[str]) -> dict[str, Any]:
    """Settings for machines that are reached over ssh."""
    machines = tuple(names)
    for each in machines:
        if not _MACHINE.match(each):
            raise ConfigError.for_field(
                "hosts",
                value=each,
                allowed="a number of local hosts, or machines: NAME,NAME or `NAME ADDRESS`",
            )
    return {"hosts": len(machines), "machines": machines, "launcher": "ssh"}
