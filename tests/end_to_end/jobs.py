"""Real DistDGL jobs of a few processes that run a script of the tests instead of a trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.training.config import run_config
from rudder.training.hosts.host import Host
from rudder.training.hosts.local import open_cluster
from rudder.training.job import Job
from rudder.training.launch.worker import (
    common_variables,
    server_variables,
    trainer_variables,
)
from rudder.training.partition.described import describe
from rudder.training.partitioned_graph import TensorChoice
from tests.waiting import RUN_SECONDS, WAIT_SECONDS

SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).parents[2]
SOONER = SCRIPTS / "sooner.py"


@dataclass(frozen=True)
class Command:
    """A process of a job, with what its launcher adds to the environment."""

    argv: Sequence[str]
    variables: Mapping[str, str]


Launcher = Callable[[Job, int, Host, Sequence[str]], list[Command]]
"""The client commands of one host: job, its index, the host, the script with its arguments."""


def each_trainer(job: Job, index: int, host: Host, argv: Sequence[str]) -> list[Command]:
    """The trainers of a host as `rudder train` starts them."""
    count = job.config.trainers_per_host
    ranks = range(index * count, (index + 1) * count)
    hosts = [host] * job.config.hosts
    return [Command(argv, trainer_variables(job, rank, hosts)) for rank in ranks]


def run_script(
    script: Path,
    *arguments: str,
    data: Path,
    scratch: Path,
    timeout_s: float = RUN_SECONDS,
    per_host: int = 1,
    launcher: Launcher = each_trainer,
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Run `script` as server and trainer of every host; returns each client command's output.

    The script gets --graph-name, --part-config and --ip-config before `arguments`. per_host:
    servers and trainers of a host; variables: of all processes. Fails with the logs unless all
    client commands end with 0, and the servers after them.
    """
    graph = describe(data, TensorChoice(), progress=print)
    scratch.mkdir(parents=True, exist_ok=True)
    with open_cluster("namespace", num_hosts=graph.num_parts) as cluster:
        job = Job(
            config=run_config(
                hosts=graph.num_parts, servers_per_host=per_host, trainers_per_host=per_host
            ),
            graph=graph,
            run_dir=scratch,
            ip_config=scratch / "ip_config.txt",
            addresses=tuple(host.address for host in cluster.hosts),
            network=cluster.network,
            master_port=cluster.reserve_ports(per_host + 1, first=None) + per_host,
        )
        lines = [f"{address} {job.master_port - per_host}\n" for address in job.addresses]
        job.ip_config.write_text("".join(lines))
        argv = [sys.executable, str(SOONER), str(script), "--graph-name", job.graph_name,
                "--part-config", str(job.part_config), "--ip-config", str(job.ip_config),
                *arguments]  # fmt: skip
        own = dict(variables or {})
        servers = [
            _start(
                job, host, Command(argv, server_variables(k * per_host + i) | own), is_server=True
            )
            for k, host in enumerate(cluster.hosts)
            for i in range(per_host)
        ]
        trainers = [
            _start(job, host, Command(each.argv, {**each.variables, **own}))
            for k, host in enumerate(cluster.hosts)
            for each in launcher(job, k, host, argv)
        ]
        try:
            outputs = _outputs(trainers, timeout_s)
            failed = [trainer.returncode for trainer in trainers if trainer.returncode]
            assert not failed, "\n".join(outputs)
            assert [server.wait(WAIT_SECONDS) for server in servers] == [0] * len(servers)
        finally:
            for process in (*servers, *trainers):
                process.kill()
                process.wait()
    return outputs


def _outputs(trainers: Sequence[subprocess.Popen[str]], timeout_s: float) -> list[str]:
    """Outputs once all have ended; when one fails or the time is up, the others are killed."""
    end = time.monotonic() + timeout_s
    while any(trainer.poll() is None for trainer in trainers):
        if any(trainer.poll() for trainer in trainers) or time.monotonic() > end:
            for trainer in trainers:
                trainer.kill()
        time.sleep(0.05)
    return [trainer.communicate()[0] for trainer in trainers]


def _start(
    job: Job, host: Host, command: Command, *, is_server: bool = False
) -> subprocess.Popen[str]:
    common = common_variables(job, host) | {"PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        host.command(command.argv, variables={**common, **command.variables}),
        stdout=subprocess.DEVNULL if is_server else subprocess.PIPE,
        stderr=subprocess.DEVNULL if is_server else subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
