"""Hosts on other machines: an agent on each starts the processes and sends what they write."""

from __future__ import annotations

import json
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import xxhash

from rudder.training.checksums import checksum
from rudder.training.database_copy import copy_database
from rudder.training.errors import ConfigError, MachineError, RudderError
from rudder.training.hosts.host import Cluster, Host, Network, Room
from rudder.training.hosts.host_process import HostProcess
from rudder.training.hosts.link import HostLink, Stream
from rudder.training.hosts.messages import (
    CHUNK_BYTES,
    FindFiles,
    Found,
    HostReport,
    Ports,
    PutFile,
    ReservePorts,
    Stored,
)
from rudder.training.hosts.names import Machine
from rudder.training.job import Job
from rudder.training.model.own import OwnModel
from rudder.training.steering_options import SteeringOptions
from rudder.training.versions import installed_versions

_LOOPBACK = "lo"
Item = TypeVar("Item")
Result = TypeVar("Result")
Starter = Callable[[], AbstractContextManager[Sequence[Stream]]]


@dataclass(frozen=True)
class RemoteHost(Host):
    """A host whose processes its agent starts."""

    link: HostLink = field(kw_only=True)
    report: HostReport = field(kw_only=True)

    @property
    def machine(self) -> str:
        """As it calls itself."""
        return self.report.name

    def start(self, argv: Sequence[str], *, variables: Mapping[str, str], log: Path) -> HostProcess:
        """Run Python there; the interpreter, the first of `argv`, is the agent's own."""
        return self.link.start(argv[1:], variables=variables, log=log)

    def memory_kills(self) -> int:
        """Processes that the machine's kernel has killed for memory."""
        return self.link.memory_kills


class MachineCluster(Cluster):
    """Machines that `start` reaches, in the order of `machines`, else of their names.

    What the processes write is kept on each machine's own disk and copied into `run_dir`. Raises
    MachineError on entry with the problems of all machines.
    """

    network: Network = "machines"

    def __init__(
        self,
        *,
        num_hosts: int,
        start: Starter,
        run_dir: Path,
        control: Path,
        machines: Sequence[Machine] = (),
        timeout_s: float,
        may_be_public: bool = False,
    ) -> None:
        """control: folder of the run's sockets here; may_be_public: addresses may be such that the
        whole internet reaches."""
        super().__init__(num_hosts=num_hosts)
        self._begin, self._run_dir, self._timeout_s = start, run_dir, timeout_s
        self._control = control
        self._machines, self._may_be_public = machines, may_be_public
        self._remote: tuple[RemoteHost, ...] = ()

    def _start(self, stack: ExitStack) -> tuple[Host, ...]:
        streams = stack.enter_context(self._begin())
        names = [each.name for each in self._machines] or [
            f"number {index + 1}" for index in range(len(streams))
        ]
        links = [
            HostLink(stream, name=name, run_dir=self._run_dir, control=self._control)
            for name, stream in zip(names, streams, strict=True)
        ]
        stack.callback(_each, links, HostLink.close)
        reports = _each(links, lambda link: link.report(timeout_s=self._timeout_s))
        pairs = list(zip(links, reports, strict=True))
        if not self._machines:
            pairs.sort(key=lambda pair: _natural(pair[1].name))
        wishes = self._machines or [Machine(report.name) for _, report in pairs]
        self._remote = tuple(
            _host(link, report, wish, may_be_public=self._may_be_public)
            for (link, report), wish in zip(pairs, wishes, strict=True)
        )
        _check_addresses(self._remote)
        return self._remote

    def reserve_ports(self, count: int, *, first: int | None) -> int:
        """Ports that are free on every machine; raises MachineError."""
        hosts = list(self._remote)
        start = hosts[0].link.ask(_ports(hosts[0], count, first), Ports).first
        _each(hosts[1:], lambda host: host.link.ask(_ports(host, count, start), Ports))
        return start

    def rooms(self) -> list[Room]:
        """Memory that is free on each machine."""
        return [
            Room(f"host {each.name}", range(part, part + 1), each.report.memory_bytes,
                 each.report.shm_bytes)
            for part, each in enumerate(self._remote)
        ]  # fmt: skip

    def hand_over(self, job: Job) -> list[Job]:
        """Send job, addresses, memory and missing parts; returns each host's own view."""
        with _snapshot(job.config.steering) as memory:
            return _each(
                list(enumerate(self._remote)),
                lambda pair: _give(job, pair[1], part=pair[0], memory=memory),
            )


def _host(
    link: HostLink, report: HostReport, machine: Machine, *, may_be_public: bool
) -> RemoteHost:
    link.name = machine.name
    address = machine.address or address_of(report.addresses, machine.name)
    interface = next((name for name, all_of in report.addresses.items() if address in all_of), None)
    if interface is None and not address.startswith("127."):
        known = ", ".join(sorted({a for every in report.addresses.values() for a in every}))
        raise MachineError(
            f"machine {machine.name} has no address {address}; it has {known}",
            remedy="write its address behind its name in --hosts-file",
        )
    return RemoteHost(
        name=machine.name,
        address=address,
        interface=interface or _LOOPBACK,
        num_cores=report.num_cores,
        may_be_public=may_be_public,
        link=link,
        report=report,
    )


def address_of(interfaces: Mapping[str, Sequence[str]], name: str) -> str:
    """The address that a machine's name stands for, else its only one that is no loopback.

    interfaces: its addresses by network interface. Raises MachineError where it has several.
    """
    own = [
        address
        for interface, addresses in interfaces.items()
        if interface != _LOOPBACK
        for address in addresses
    ]
    with suppress(OSError, UnicodeError):
        for address in socket.gethostbyname_ex(name.rpartition("@")[2])[2]:
            if address in own:
                return address
    if len(own) == 1:
        return own[0]
    raise MachineError(
        f"machine {name} has {len(own)} addresses ({', '.join(own)}), and its name is none of them",
        remedy="write the address to use behind its name in --hosts-file: `node1 10.0.0.1`",
    )


def _check_addresses(hosts: Sequence[RemoteHost]) -> None:
    """Each host needs an address of its own, and the versions of this machine."""
    seen: dict[str, str] = {}
    for host in hosts:
        if (other := seen.setdefault(host.address, host.name)) != host.name:
            raise ConfigError(
                f"hosts {other} and {host.name} have the same address {host.address}",
                remedy="name each machine once; give two hosts of one machine two addresses",
            )
    here = installed_versions()
    for host in hosts:
        versions = host.report.versions.items()
        wrong = [
            f"{name} {found}, here {here.get(name, 'none')}"
            for name, found in versions
            if here.get(name) != found
        ]
        if wrong:
            raise MachineError(
                f"machine {host.name} has other versions: {'; '.join(wrong)}",
                remedy="install the same versions on all machines",
            )


def _ports(host: RemoteHost, count: int, first: int | None) -> ReservePorts:
    return ReservePorts(address=host.address, count=count, first=first)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts node10 behind node9."""
    return [(int(part), "") if part.isdecimal() else (-1, part)
            for part in re.split(r"(\d+)", name)]  # fmt: skip


# -- what a host needs --------------------------------------------------------------------------


def _give(job: Job, host: RemoteHost, *, part: int, memory: Path | None) -> Job:
    """Send what the host lacks; returns the job as it sees it."""
    folder, link = host.report.folder, host.link
    data_dir = _place_of_data(job, host, part=part)
    updates: dict[str, object] = {}
    if memory is not None:
        updates["memory"] = folder / ".memory.db"
        _send_file(link, memory, folder / ".memory.db")
    if (model := job.config.planner_model) is not None:
        updates["planner_model"] = folder / ".planner"
        _send_file(link, model, folder / ".planner")
    if own := OwnModel.parse(job.config.model):
        updates["model"] = str(_place_of_model(link, own, folder / ".model"))
    resumed = None
    if job.resume_from is not None:
        resumed = folder / job.resume_from.relative_to(job.run_dir)
        for path in _files_to_go_on(job, part=part):
            _send_file(link, path, folder / path.relative_to(job.run_dir))
    view = job.model_copy(
        update={
            "resume_from": resumed,
            "config": job.config.model_copy(update=updates),
            "run_dir": folder,
            "control_dir": None,
            "graph": job.graph.model_copy(update={"part_config": data_dir / job.part_config.name}),
            "ip_config": folder / job.ip_config.name,
            "shm_prefix": host.report.shm_prefix,
        }
    )
    send_bytes(link, job.ip_config.read_bytes(), view.ip_config)
    send_bytes(link, view.model_dump_json(indent=2).encode(), view.file)
    return view


def _place_of_model(link: HostLink, own: OwnModel, folder: Path) -> OwnModel:
    """A person's own model as the host finds it: in the same place, else in `folder`.

    The file may import its neighbours, so all Python files beside it are sent.
    """
    files = sorted(own.file.parent.glob("*.py"))
    if not _missing(link, own.file.parent, {path.name: path.stat().st_size for path in files}):
        return own
    for path in files:
        _send_file(link, path, folder / path.name)
    return OwnModel(folder / own.file.name, own.name)


def _files_to_go_on(job: Job, *, part: int) -> Iterator[Path]:
    """What a resumed run needs on a host: its ranks' records, and on the first the checkpoint."""
    per_host = job.config.trainers_per_host
    for rank in range(part * per_host, (part + 1) * per_host):
        yield from (job.run_dir / "steering").glob(f"rank{rank}.*[nb]")  # .json, .db
    if part == 0 and job.resume_from is not None:
        yield from job.resume_from.iterdir()


def _place_of_data(job: Job, host: RemoteHost, *, part: int) -> Path:
    """Folder with the host's part: the launcher's if the host sees it, else a copy."""
    folder = job.part_config.parent
    wanted = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in files_of_part(job.part_config, part)
    }
    if not _missing(host.link, folder, wanted):
        return folder
    copy = host.report.cache / _identity(folder)
    for name in _missing(host.link, copy, wanted):
        _send_file(host.link, folder / name, copy / name)
    return copy


def _missing(link: HostLink, folder: Path, wanted: Mapping[str, int]) -> list[str]:
    found = link.ask(FindFiles(folder=folder, names=tuple(wanted)), Found).files
    there = {each.path: each.size for each in found}
    return [name for name, size in wanted.items() if there.get(name) != size]


def files_of_part(part_config: Path, part: int) -> Iterator[Path]:
    """What a host with this part needs: all of its folder but the other parts' folders."""
    folder = part_config.parent
    parts = json.loads(part_config.read_text())
    others = {
        (folder / file).parent
        for name, files in parts.items()
        if re.fullmatch(r"part-\d+", name) and name != f"part-{part}"
        for file in files.values()
    } - {folder}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(path.is_relative_to(other) for other in others):
            yield path


def _identity(folder: Path) -> str:
    """Names the copy of a graph: from the small files beside its parts, which tell its making."""
    digest = xxhash.xxh3_128()
    for path in sorted(folder.glob("*.json")):
        digest.update(path.read_bytes())
    return f"{folder.name}-{digest.hexdigest()}"


@contextmanager
def _snapshot(options: SteeringOptions | None) -> Iterator[Path | None]:
    """A copy of the memory of past runs as it stands now; None where there is none."""
    if options is None or options.memory is None or not options.memory.is_file():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "memory.db"
        copy_database(options.memory, copy)
        yield copy


def _send_file(link: HostLink, source: Path, target: Path) -> None:
    digest, offset = checksum(source), 0
    with source.open("rb") as stream:
        while len(data := stream.read(CHUNK_BYTES)) == CHUNK_BYTES:
            link.send(PutFile(path=target, offset=offset), data)
            offset += len(data)
    link.ask(PutFile(path=target, offset=offset, digest=digest), Stored, data)


def send_bytes(link: HostLink, content: bytes, target: Path) -> None:
    """Write a small file there; raises MachineError."""
    digest = xxhash.xxh3_128_hexdigest(content)
    link.ask(PutFile(path=target, offset=0, digest=digest), Stored, content)


def _each(items: Sequence[Item], do: Callable[[Item], Result]) -> list[Result]:
    """Do it for all at once; raises one MachineError with the problems of all."""
    problems: list[RudderError] = []

    def attempt(item: Item) -> Result | None:
        try:
            return do(item)
        except RudderError as error:
            problems.append(error)
            return None

    with ThreadPoolExecutor(max_workers=max(1, min(len(items), 64))) as pool:
        found = list(pool.map(attempt, items))
    if problems:
        message = "\n  ".join(each.message for each in problems)
        remedies = dict.fromkeys(each.remedy for each in problems)
        lost = {name for each in problems for name in getattr(each, "lost_hosts", ())}
        raise MachineError(message, remedy="; ".join(remedies), lost_hosts=tuple(sorted(lost)))
    return found  # type: ignore[return-value]  # no None without a problem
