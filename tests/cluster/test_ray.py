"""`rudder train --launcher ray` on the nodes of a Ray cluster."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder.training.metrics import Summary
from tests.cluster.jobs import ENDLESS, SHORT, Training, losses
from tests.cluster.machines import Machine, Machines

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]
PORT = 6379


@pytest.fixture
def ray(machines: Machines) -> Iterator[Machine]:
    """A Ray cluster of node1 and node2; yields its first node."""
    nodes, command = machines.all[:2], Path(sys.executable).with_name("ray")
    for machine in nodes:
        head = machine is nodes[0]
        where = ("--head", f"--port={PORT}") if head else (f"--address={nodes[0].address}:{PORT}",)
        options = ("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats",
                   "--include-dashboard=false") if head else ("--num-cpus=2",
                   "--object-store-memory=100000000", "--disable-usage-stats")  # fmt: skip
        machine.run(command, "start", f"--node-ip-address={machine.address}", *where, *options)
    yield nodes[0]
    for machine in nodes:
        machine.run(command, "stop", "--force")


def test_nodes_of_ray_train_as_local_hosts_do(
    ray: Machine, parts: Path, local_run: Summary
) -> None:
    options = ("--data", parts, "--launcher", "ray", "--hosts", 2)
    with Training(ray, *options, *SHORT) as training:
        assert losses(training.summary()) == losses(local_run)


def test_actor_that_is_killed_takes_its_host_with_it(
    ray: Machine, machines: Machines, parts: Path
) -> None:
    options = ("--data", parts, "--launcher", "ray", "--hosts", 2)
    with Training(ray, *options, *ENDLESS) as training:
        training.wait_until_training()
        (actor,) = machines.all[1].processes("ray::_Node")
        actor.kill()
        assert training.end() == 5
        assert "on node2 is lost with its host" in training.told
