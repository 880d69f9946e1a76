"""Real DistDGL jobs of a few processes that run a script of the tests instead of a trainer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
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

SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).parents[2]
SERVER_END_S = 10


def run_script(
    script: Path, *arguments: str, data: Path, scratch: Path, timeout_s: float = 240
) -> list[str]:
    """Run `script` as server and trainer of every host; returns each trainer's output.

    The script gets --graph-name, --part-config and --ip-config before `arguments`. Fails with the
    logs unless all trainers end with 0, and the servers after them.
    """
    graph = describe(data, TensorChoice(), progress=print)
    scratch.mkdir(parents=True, exist_ok=True)
    with open_cluster("namespace", num_hosts=graph.num_parts) as cluster:
        job = Job(
            config=run_config(hosts=graph.num_parts),
            graph=graph,
            run_dir=scratch,
            ip_config=scratch / "ip_config.txt",
            addresses=tuple(host.address for host in cluster.hosts),
            network=cluster.network,
            master_port=cluster.reserve_ports(2, first=None) + 1,
        )
        lines = [f"{address} {job.master_port - 1}\n" for address in job.addresses]
        job.ip_config.write_text("".join(lines))
        argv = [sys.executable, str(script), "--graph-name", job.graph_name, "--part-config",
                str(job.part_config), "--ip-config", str(job.ip_config), *arguments]  # fmt: skip
        servers = [_start(job, k, host, argv, "server") for k, host in enumerate(cluster.hosts)]
        trainers = [_start(job, k, host, argv, "client") for k, host in enumerate(cluster.hosts)]
        try:
            outputs = _outputs(trainers, timeout_s)
            failed = [trainer.returncode for trainer in trainers if trainer.returncode]
            assert not failed, "\n".join(outputs)
            assert [server.wait(SERVER_END_S) for server in servers] == [0] * len(servers)
        finally:
            for process in (*servers, *trainers):
                process.kill()
                process.wait()
    return outputs


def _outputs(trainers: Sequence[subprocess.Popen[str]], timeout_s: float) -> list[str]:
    """Outputs once all have ended; when one fails or the time is up, the others are killed."""
    until = time.monotonic() + timeout_s
    while any(trainer.poll() is None for trainer in trainers):
        if any(trainer.poll() for trainer in trainers) or time.monotonic() > until:
            for trainer in trainers:
                trainer.kill()
        time.sleep(0.05)
    return [trainer.communicate()[0] for trainer in trainers]


def _start(
    job: Job, rank: int, host: Host, argv: Sequence[str], role: str
) -> subprocess.Popen[str]:
    own = server_variables(rank) if role == "server" else trainer_variables(job, rank, host)
    variables = common_variables(job, host) | own | {"PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        host.command(argv, variables=variables),
        stdout=subprocess.DEVNULL if role == "server" else subprocess.PIPE,
        stderr=subprocess.DEVNULL if role == "server" else subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=dict(os.environ),
    )
