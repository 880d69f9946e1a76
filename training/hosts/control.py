"""Control of trainers on other machines from the launcher's run folder, as if they were here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rudder.training.control.door import Door
from rudder.training.control.steering import SWITCH_FILES
from rudder.training.control.unix_socket import listen
from rudder.training.errors import MachineError
from rudder.training.hosts.host import Host
from rudder.training.hosts.link import HostLink
from rudder.training.hosts.machines import RemoteHost, send_bytes
from rudder.training.hosts.messages import Listen, RemoveFile
from rudder.training.hosts.starters import own_addresses
from rudder.training.job import Job
from rudder.training.repeating import repeating

_SWITCH_SECONDS = 0.5
"""So late a switch reaches the machines."""


@contextmanager
def control_over(job: Job, hosts: Sequence[Host]) -> Iterator[None]:
    """Carry what happens in the control folder of the run to the machines.

    Its sockets lead to the trainers, its switches are copied, and controllers reach the launcher's
    way to the language model. Other machines get at the folder through a `Door`.
    """
    remote = [host for host in hosts if isinstance(host, RemoteHost)]
    if not remote and job.control_dir is None:
        yield
        return
    per_host = job.config.trainers_per_host
    of_ranks = [host for host in remote for _ in range(per_host)]
    with ExitStack() as stack:
        for rank, host in enumerate(of_ranks):
            stack.enter_context(_forwarded(job.socket_of(rank), host.link))
        for host in remote:
            if job.llm_socket is not None:
                host.link.send(Listen(path=f"control/{job.llm_socket.name}"))
        stack.enter_context(copied_switches(job.control, remote))
        names = [host.name for host in of_ranks]
        stack.enter_context(
            Door(job.run_dir, control=job.control, addresses=own_addresses(), hosts=names)
        )
        yield


@contextmanager
def _forwarded(path: Path, link: HostLink) -> Iterator[None]:
    """A socket here that leads to the one of the same name there."""
    listener = listen(path)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                link.connect(client, path=f"control/{path.name}")

    threading.Thread(target=accept, name=f"rudder-{path.stem}", daemon=True).start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def copied_switches(folder: Path, hosts: Sequence[RemoteHost]) -> Iterator[None]:
    """Copy what users switch off or limit to all machines, as long as the run goes on."""
    known: dict[str, str | None] = dict.fromkeys(SWITCH_FILES)

    def copy() -> None:
        for name, before in known.items():
            file = folder / name
            text = file.read_text() if file.exists() else None
            if text != before:
                known[name] = text
                for host in hosts:
                    _set(host, name, text)

    def look() -> None:
        with suppress(OSError, UnicodeError):  # it has just been removed, or is no text
            copy()

    copy()
    with repeating(look, every_s=_SWITCH_SECONDS, name="rudder-switches"):
        yield


def _set(host: RemoteHost, name: str, text: str | None) -> None:
    path = host.report.folder / "control" / name
    with suppress(MachineError):  # a host that is lost ends the run
        if text is None:
            host.link.send(RemoveFile(path=path))
        else:
            send_bytes(host.link, text.encode(), path)
