"""What the trainers of a run are told when they start."""

from __future__ import annotations

import pytest

from rudder.training.config import run_config
from rudder.training.hosts.host import Host
from rudder.training.job import Job
from rudder.training.launch.worker import trainer_variables
from rudder.training.machine import TRAINERS_VARIABLE


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
    kind: type[Host], names: tuple[str, ...], told: str
) -> None:
    hosts = [kind(name=each, address="10.0.0.1", interface="eth0", num_cores=4) for each in names]
    config = run_config(hosts=len(hosts), trainers_per_host=2)
    job = Job.model_construct(config=config, addresses=("10.0.0.1",), master_port=1)
    variables = [trainer_variables(job, rank, hosts) for rank in range(config.num_trainers)]
    assert " ".join(each[TRAINERS_VARIABLE] for each in variables) == told
