"""Starts all processes of a run with the variables that DistDGL and torch read, and ends them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rudder.training.hosts.host import Host
from rudder.training.job import HOST_VARIABLE, JOB_VARIABLE, Job
from rudder.training.launch.worker import Role, Worker
from rudder.training.machine import TRAINERS_VARIABLE
from rudder.training.process.worker import LAUNCHER_VARIABLE

_ARGV = (sys.executable, "-P", "-m", "rudder.training.process.worker")
_GRACE_SECONDS = 1.0


class WorkerGroup:
    """Servers and trainers of a job, which run within the `with` block only."""

    def __init__(self, job: Job, hosts: tuple[Host, ...], *, job_file: Path, logs: Path) -> None:
        self._job, self._hosts = job, hosts
        self._job_file, self._logs = job_file, logs
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
        """End the processes that still run: SIGTERM, a short wait, SIGKILL."""
        running = [worker for worker in self.workers if worker.exit_code is None]
        for worker in running:
            worker.signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE_SECONDS
        for worker in running:
            worker.wait(until)
        for worker in self.workers:
            worker.close()

    def _start(self) -> None:
        config = self._job.config
        for index, host in enumerate(self._hosts):
            for _ in range(config.servers_per_host):
                rank = len(self.servers)
                own = server_variables(rank)
                self.servers.append(self._worker(Role("server", rank, host), index, own))
        for index, host in enumerate(self._hosts):
            for _ in range(config.trainers_per_host):
                rank = len(self.trainers)
                own = trainer_variables(self._job, rank, host)
                self.trainers.append(self._worker(Role("trainer", rank, host), index, own))

    def _worker(self, role: Role, index: int, own: Mapping[str, str]) -> Worker:
        name = "server" if role.name == "server" else "rank"
        variables = {
            JOB_VARIABLE: str(self._job_file),
            HOST_VARIABLE: str(index),
            LAUNCHER_VARIABLE: str(os.getpid()),
            **common_variables(self._job, role.host),
            **own,
        }
        return Worker(role, _ARGV, variables=variables, log=self._logs / f"{name}{role.rank}.log")


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
        "GLOO_SOCKET_IFNAME": host.interface,
        "NCCL_SOCKET_IFNAME": host.interface,
    }


def server_variables(rank: int) -> dict[str, str]:
    """Environment variables of a graph server, which answers requests in one thread."""
    return {"DGL_ROLE": "server", "DGL_SERVER_ID": str(rank), "OMP_NUM_THREADS": "1"}


def trainer_variables(job: Job, rank: int, host: Host) -> dict[str, str]:
    """Environment variables of a trainer: ranks, torch's rendezvous, its share of the cores."""
    per_host = job.config.trainers_per_host
    return {
        "DGL_ROLE": "client",
        "MASTER_ADDR": job.addresses[0],
        "MASTER_PORT": str(job.master_port),
        "WORLD_SIZE": str(job.config.num_trainers),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % per_host),
        "LOCAL_WORLD_SIZE": str(per_host),
        TRAINERS_VARIABLE: str(job.config.num_trainers),
        "OMP_NUM_THREADS": str(max(1, host.num_cores // per_host)),
    }
