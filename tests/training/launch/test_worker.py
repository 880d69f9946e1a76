"""What the trainers of a run are told when they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.config import run_config
from rudder.training.hosts.host import Host
from rudder.training.job import Job
from rudder.training.launch.worker import trainer_variables
from rudder.training.machine import TRAINERS_VARIABLE
from rudder.training.partitioned_graph import PartitionedGraph


class RemoteHost(Host):
    """A host whose machine is named like it, up to the dash."""

    @property
    def machine(self) -> str:
        return self.name.partition("-")[0]


@pytest.mark.parametrize(
    ("kind", "names", "told"),
    [
        (Host, ("host0", "host1"), "4 4 4 4"),
        (RemoteHost, ("node0", "node1"), "2 2 2 2"),
        (RemoteHost, ("a-0", "a-1", "b-0"), "4 4 4 4 2 2"),
    ],
)
def test_a_trainer_shares_memory_with_the_trainers_of_its_machine_only(
    kind: type[Host], names: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    hosts = [kind(name=each, address="10.0.0.1", interface="eth0", num_cores=4) for each in names]
    config = run_config(hosts=len(hosts), trainers_per_host=2)
    graph = PartitionedGraph.model_construct()  # type: ignore[call-arg]  # nothing of it is read
    job = Job.model_construct(
        config=config,
        graph=graph,
        run_dir=tmp_path,
        ip_config=tmp_path / "ip_config.txt",
        addresses=("10.0.0.1",),
        network="loopback",
        master_port=1,
    )
    variables = [trainer_variables(job, rank, hosts) for rank in range(config.num_trainers)]
    assert " ".join(each[TRAINERS_VARIABLE] for each in variables) == told
