"""A script with `NodeLoader` works unchanged, whatever launches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rudder.training.hosts.host import Host
from rudder.training.job import Job
from rudder.training.manifest import Manifest
from rudder.training.partition.prepare import prepare
from tests.end_to_end.jobs import SCRIPTS, Command, run_script
from tests.waiting import RUN_SECONDS

pytestmark = pytest.mark.distributed
SCRIPT = SCRIPTS / "launched.py"
CLIENT = {"DGL_ROLE": "client", "DGL_DIST_MODE": "distributed", "OMP_NUM_THREADS": "1"}


def dgl_launch(job: Job, index: int, host: Host, argv: Sequence[str]) -> list[Command]:
    """As DGL's launch.py, which starts a torchrun on each host over ssh."""
    torchrun = (
        *(argv[0], "-m", "torch.distributed.run", f"--nnodes={job.config.hosts}"),
        *(f"--nproc_per_node={job.config.trainers_per_host}", f"--node_rank={index}"),
        *(f"--master_addr={job.addresses[0]}", f"--master_port={job.master_port}"),
    )
    return [Command((*torchrun, *argv[1:]), CLIENT)]


def srun(job: Job, index: int, host: Host, argv: Sequence[str]) -> list[Command]:
    """As a Slurm step: nothing says how many trainers a host has. mpirun's variables are alike."""
    count = job.config.trainers_per_host
    task = ("sh", "-c", 'RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS exec "$@"', "sh", *argv)
    common = CLIENT | {
        "MASTER_ADDR": job.addresses[0],
        "MASTER_PORT": str(job.master_port),
        "SLURM_NTASKS": str(job.config.num_trainers),
    }
    return [Command(task, common | {"SLURM_PROCID": str(index * count + i)}) for i in range(count)]


def without_process_group(job: Job, index: int, host: Host, argv: Sequence[str]) -> list[Command]:
    """Trainers that know each other through DGL only."""
    return [Command(argv, CLIENT)] * job.config.trainers_per_host


def found_by(outputs: Sequence[str]) -> list[dict[str, Any]]:
    """What each trainer says of its batches and of its share of the host's budget."""
    lines = [line for output in outputs for line in output.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def are_right(found: Sequence[dict[str, Any]], *, trainers_on_host: int) -> bool:
    return all(
        each["same"]
        and each["all_seeds"]
        and each["budget_rows"] == each["host_budget_rows"] // trainers_on_host
        for each in found
    )


@pytest.mark.parametrize(
    ("launcher", "samplers"), [(dgl_launch, 1), (srun, 0), (without_process_group, 0)]
)
def test_trainers_get_the_rows_and_their_share_of_the_memory(
    tiny_parts: Path, tmp_path: Path, launcher: Any, samplers: int
) -> None:
    """On two hosts with two servers and two trainers each, which agents steer."""
    clients = 4 * (1 + samplers)
    outputs = run_script(
        SCRIPT,
        *("--steer", "--scratch", str(tmp_path)),
        data=tiny_parts,
        scratch=tmp_path,
        per_host=2,
        launcher=launcher,
        variables={"DGL_NUM_SAMPLER": str(samplers), "DGL_NUM_CLIENT": str(clients)},
    )
    found = found_by(outputs)
    assert len(found) == 4
    assert are_right(found, trainers_on_host=2)


def test_one_process_trains_without_servers(tmp_path: Path) -> None:
    """Standalone mode; a write while an epoch runs is refused there, too."""
    data = tmp_path / "parts"
    prepare("synthetic:tiny", num_parts=1, out=data, progress=lambda text: None)
    manifest = Manifest.read(data)
    arguments = ("--graph-name", manifest.graph_name, "--ip-config", "none", "--steer",
                 "--part-config", str(manifest.part_config(data)), "--write",
                 "--scratch", str(tmp_path))  # fmt: skip
    variables = {name: text for name, text in os.environ.items() if not name.startswith("DGL_")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=variables | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_SECONDS,
    )  # fmt: skip
    (found,) = found_by([done.stdout])
    assert are_right([found], trainers_on_host=1)
    assert found["refuses_writes"]
