"""A script of one's own on two machines, under DGL's launch.py and under srun."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rudder.training.manifest import Manifest
from tests.cluster.jobs import END_SECONDS, START_SECONDS
from tests.cluster.machines import Machine, Machines

pytestmark = pytest.mark.cluster
EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT, JOB = EXAMPLES / "own_script.py", EXAMPLES / "cluster" / "own_script.sbatch"
NODES = (0, 1)
PORT = 30050
TORCH_PORT = 29500


def variables(parts: Path, ip_config: Path) -> dict[str, str]:
    """What DGL reads in servers and trainers."""
    return {
        "DGL_DIST_MODE": "distributed",
        "DGL_NUM_SERVER": "1",
        "DGL_NUM_CLIENT": "2",
        "DGL_NUM_SAMPLER": "0",
        "DGL_GRAPH_FORMAT": "csc",
        "DGL_CONF_PATH": str(Manifest.read(parts).part_config(parts)),
        "DGL_IP_CONFIG": str(ip_config),
    }


def command(machines: Machines, parts: Path) -> tuple[dict[str, str], str]:
    """Variables and command line of the script."""
    ip_config = machines.shared / "ip_config.txt"
    ip_config.write_text("".join(f"{machines.all[k].address} {PORT}\n" for k in NODES))
    manifest = Manifest.read(parts)
    arguments = ("--graph-name", manifest.graph_name, "--part-config", manifest.part_config(parts),
                 "--ip-config", ip_config, "--check", "--steer", "--epochs", 2)  # fmt: skip
    return variables(parts, ip_config), " ".join(map(str, (SCRIPT, *arguments)))


def exported(values: Mapping[str, str], line: str) -> str:
    """The line in a shell with these variables, as launch.py writes it."""
    return f"(export {' '.join(f'{name}={value}' for name, value in values.items())}; {line})"


@contextmanager
def servers(starts: Iterator[subprocess.Popen[str]]) -> Iterator[None]:
    """Servers, which have to end by themselves after the trainers."""
    with ExitStack() as stack:
        running = list(starts)
        for server in running:
            stack.callback(server.kill)
        yield
        assert [server.wait(END_SECONDS) for server in running] == [0] * len(running)


def check(output: str) -> None:
    for rank in NODES:
        assert f"rank {rank} identical to DistTensor reads: True" in output
        assert f"rank {rank} epoch 1:" in output


def test_script_trains_under_launch_py(machines: Machines, third: Machine, parts: Path) -> None:
    """Which starts each server over ssh, and on each machine a torchrun."""
    values, line = command(machines, parts)
    ssh = ("ssh", "-o", "StrictHostKeyChecking=no", "-p", 22)

    def start(node: int, text: str, **options: int) -> subprocess.Popen[str]:
        workspace = f"cd {machines.shared}; {text}"
        return third.start(*ssh, machines.all[node].name, workspace, **options)

    def server(node: int) -> subprocess.Popen[str]:
        own = {**values, "DGL_ROLE": "server", "DGL_SERVER_ID": str(node), "OMP_NUM_THREADS": "1"}
        return start(node, exported(own, f"{sys.executable} {line}"))

    def trainer(node: int) -> subprocess.Popen[str]:
        torchrun = (
            f"{sys.executable} -m torch.distributed.run --nnodes=2 --nproc_per_node=1"
            f" --node_rank={node} --master_addr={machines.all[0].address}"
            f" --master_port={TORCH_PORT} {line}"
        )
        own = {**values, "DGL_ROLE": "client", "OMP_NUM_THREADS": "1"}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return start(node, exported(own, torchrun), **output)

    with servers(map(server, NODES)):
        trainers = list(map(trainer, NODES))
        outputs = [each.communicate(timeout=START_SECONDS)[0] for each in trainers]
    check("\n".join(outputs))


def test_script_trains_in_a_job_of_slurm(slurm: Machines, third: Machine, parts: Path) -> None:
    manifest, output = Manifest.read(parts), slurm.shared / "own.log"
    options = ("--wait", "--nodelist=node1,node2", "--cpus-per-task=2", f"--output={output}",
               f"--chdir={slurm.workplace()}")  # fmt: skip
    arguments = ("--graph-name", manifest.graph_name, "--check", "--steer", "--epochs", 2)
    job = (JOB, manifest.part_config(parts), SCRIPT, *arguments)
    third.run("sbatch", *options, *job, timeout_s=START_SECONDS)
    check(output.read_text())
