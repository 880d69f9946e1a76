"""The processes of a run: the launcher starts them, reads their events and ends them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from rudder.training.events import (
    Event,
    Failed,
    PhaseEntered,
    Reported,
    Stopped,
    read_event,
)
from rudder.training.hosts.host import Host
from rudder.training.job import HOST_VARIABLE, JOB_VARIABLE, Job
from rudder.training.machine import TRAINERS_VARIABLE
from rudder.training.metrics import RankReport
from rudder.training.process.worker import LAUNCHER_VARIABLE
from rudder.training.steering_options import KEY_FILE_VARIABLE, KEY_VARIABLE

RoleName = Literal["server", "trainer"]
_ARGV = (sys.executable, "-P", "-m", "rudder.training.process.worker")
_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Role:
    """Role, rank and host of a process. Servers and trainers are each counted from 0."""

    name: RoleName
    rank: int
    host: Host

    @property
    def trainer_rank(self) -> int | None:
        """Rank of a trainer; None for a server."""
        return self.rank if self.name == "trainer" else None

    def __str__(self) -> str:
        kind = "server" if self.name == "server" else "trainer, rank"
        return f"{kind} {self.rank} on {self.host.name}"


class Worker:
    """A process of a run, in a process group of its own, with its log and its latest events."""

    def __init__(
        self, role: Role, argv: Sequence[str], *, variables: Mapping[str, str], log: Path
    ) -> None:
        self.role = role
        self.log = log
        self._process = role.host.start(argv, variables=variables, log=log)
        self._unread = b""
        self.phase = "starting"
        self.has_trained = False
        self.failed: Failed | None = None
        self.stopped: Stopped | None = None
        self.report: RankReport | None = None
        self.last_heard = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id on its host; also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if it was killed."""
        return self._process.exit_code

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self._process.is_stopped

    @property
    def lost(self) -> str:
        """Why its host is lost; empty while it is not."""
        return self._process.lost

    @property
    def killed_by(self) -> signal.Signals | None:
        """The signal that ended the process."""
        code = self.exit_code
        return signal.Signals(-code) if code is not None and code < 0 else None

    def fileno(self) -> int:
        """What becomes readable when there are events, and when the process has ended."""
        return self._process.fileno()

    def release(self) -> None:
        """Let a trainer connect."""
        self._process.write(b"go\n")

    def events(self) -> Iterator[Event]:
        """What has arrived since the last call; never waits."""
        while chunk := self._process.read():
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                if event := read_event(line):
                    self._note(event)
                    yield event

    def _note(self, event: Event) -> None:
        self.last_heard = time.monotonic()
        if isinstance(event, PhaseEntered):
            self.phase = event.phase
            self.has_trained = self.has_trained or event.phase == "training"
        elif isinstance(event, Failed):
            self.failed = event
        elif isinstance(event, Reported):
            self.report = event.report
        elif isinstance(event, Stopped):
            self.stopped = event

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it has started."""
        self._process.signal(number)

    def wait(self, until: float) -> bool:
        """Wait for the end until a point of `time.monotonic`; False if it still runs."""
        return self._process.wait(until)

    def close(self) -> None:
        """Kill what is left of it."""
        self._process.close()


class WorkerGroup:
    """Servers and trainers of a job, which run within the `with` block only.

    Their environment has the variables that DistDGL and torch read.
    """

    def __init__(self, jobs: Sequence[Job], hosts: Sequence[Host], *, logs: Path) -> None:
        """jobs: the job as each host sees it, in the order of hosts; logs: folder for all logs."""
        self._jobs, self._hosts, self._logs = jobs, hosts, logs
        self._key = _key_for_machines(jobs[0])
        self.servers: list[Worker] = []
        self.trainers: list[Worker] = []

    @property
    def workers(self) -> list[Worker]:
        """Servers first."""
        return [*self.servers, *self.trainers]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.dismiss()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End the processes that still run: SIGHUP, a short wait, SIGKILL.

        SIGTERM would have a trainer write a checkpoint.
        """
        running = [worker for worker in self.workers if worker.exit_code is None]
        for worker in running:
            worker.signal(signal.SIGHUP)
        until = time.monotonic() + _GRACE_SECONDS
        for worker in running:
            worker.wait(until)
        for worker in self.workers:
            worker.close()

    def _start(self) -> None:
        for index, (job, host) in enumerate(zip(self._jobs, self._hosts, strict=True)):
            for _ in range(job.config.servers_per_host):
                rank = len(self.servers)
                own = server_variables(rank)
                self.servers.append(self._worker(Role("server", rank, host), index, own))
        for index, (job, host) in enumerate(zip(self._jobs, self._hosts, strict=True)):
            for _ in range(job.config.trainers_per_host):
                rank = len(self.trainers)
                own = trainer_variables(job, rank, self._hosts)
                self.trainers.append(self._worker(Role("trainer", rank, host), index, own))

    def _worker(self, role: Role, index: int, own: Mapping[str, str]) -> Worker:
        name = "server" if role.name == "server" else "rank"
        job = self._jobs[index]
        variables = {
            JOB_VARIABLE: str(job.file),
            HOST_VARIABLE: str(index),
            LAUNCHER_VARIABLE: str(os.getpid()),
            **common_variables(job, role.host),
            **self._key,
            **own,
        }
        return Worker(role, _ARGV, variables=variables, log=self._logs / f"{name}{role.rank}.log")


def _key_for_machines(job: Job) -> dict[str, str]:
    """The language model's key, for machines that have neither this environment nor its files."""
    if job.network != "machines" or job.config.llm is None:
        return {}
    if (file := os.environ.get(KEY_FILE_VARIABLE)) and not os.environ.get(KEY_VARIABLE):
        with suppress(OSError, UnicodeError):  # the controllers say so, too
            return {KEY_VARIABLE: Path(file).read_text().strip()}
    return {name: os.environ[name] for name in (KEY_VARIABLE,) if name in os.environ}


def common_variables(job: Job, host: Host) -> dict[str, str]:
    """Environment variables that DistDGL and gloo read in every process."""
    return {
        "DGLBACKEND": "pytorch",
        "DGL_DIST_MODE": "distributed",
        "DGL_NUM_SERVER": str(job.config.servers_per_host),
        "DGL_NUM_CLIENT": str(job.config.num_trainers),
        "DGL_NUM_SAMPLER": "0",
        "DGL_CONF_PATH": str(job.part_config),
        "DGL_IP_CONFIG": str(job.ip_config),
        "DGL_GRAPH_FORMAT": "csc",
        "DGL_KEEP_ALIVE": "0",
        "DGL_GROUP_ID": "0",
        "GLOO_SOCKET_IFNAME": host.interface,
        "NCCL_SOCKET_IFNAME": host.interface,
    }


def server_variables(rank: int) -> dict[str, str]:
    """Environment variables of a graph server, which answers requests in one thread."""
    return {"DGL_ROLE": "server", "DGL_SERVER_ID": str(rank), "OMP_NUM_THREADS": "1"}


def trainer_variables(job: Job, rank: int, hosts: Sequence[Host]) -> dict[str, str]:
    """Environment variables of a trainer: ranks, torch's rendezvous, its share of the cores, and
    the trainers that its machine's memory is for."""
    per_host = job.config.trainers_per_host
    host = hosts[rank // per_host]
    hosts_on_machine = sum(each.machine == host.machine for each in hosts)
    return {
        "DGL_ROLE": "client",
        "MASTER_ADDR": job.addresses[0],
        "MASTER_PORT": str(job.master_port),
        "WORLD_SIZE": str(job.config.num_trainers),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % per_host),
        "LOCAL_WORLD_SIZE": str(per_host),
        TRAINERS_VARIABLE: str(per_host * hosts_on_machine),
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # of a torchrun that started the launcher
        "OMP_NUM_THREADS": str(max(1, host.num_cores // per_host)),
    }
