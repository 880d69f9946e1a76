"""The rate of a job's links, changed while it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from rudder.bench.link import change_rate
from rudder.training.errors import MachineError
from rudder.training.hosts.local import NamespaceCluster
from rudder.training.job import HOST_VARIABLE


@pytest.fixture
def cluster() -> Iterator[NamespaceCluster]:
    with ExitStack() as stack:
        try:
            lent = stack.enter_context(NamespaceCluster(num_hosts=2, rate="1gbit"))
        except MachineError as refusal:
            pytest.skip(str(refusal))
        for number, host in enumerate(lent.hosts):
            command = host.command(["sleep", "60"], variables={HOST_VARIABLE: str(number)})
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield lent


def rates_of(cluster: NamespaceCluster) -> list[str]:
    show = ["tc", "qdisc", "show", "dev", "eth0"]
    return [
        subprocess.check_output(host.command(show, variables={}), text=True)
        for host in cluster.hosts
    ]


def test_every_host_sends_at_the_new_rate(cluster: NamespaceCluster) -> None:
    assert all("rate 1Gbit" in shown for shown in rates_of(cluster))
    change_rate("200mbit")
    assert all("rate 200Mbit" in shown for shown in rates_of(cluster))


def test_without_a_job_there_is_nothing_to_change() -> None:
    with pytest.raises(MachineError, match="no job"):
        change_rate("200mbit")
