"""`rudder train --launcher ray` on the nodes of a Ray cluster."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import ENDLESS, START_SECONDS, Training, losses
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
    common = ("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats")
    where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
    for machine in nodes:
        address = f"--node-ip-address={machine.address}"
        machine.run(command, "start", address, *where, *common, timeout_s=START_SECONDS)
        where = [f"--address={nodes[0].address}:{PORT}"]
    yield nodes[0]
    for machine in nodes:
        machine.run(command, "stop", "--force")


def test_nodes_train_as_local_hosts_do_and_a_killed_actor_takes_its_host_with_it(
    ray: Machine, machines: Machines, parts: Path, local_losses: list[str]
) -> None:
    """The first time the run begins anew, the second time it ends."""
    options = ("--data", parts, "--launcher", "ray", "--hosts", 2, "--max-restarts", 1)
    with Training(ray, *options, *ENDLESS) as training:
        for times in (1, 2):
            training.wait_until_told("epoch 2/", times=times)
            assert losses(training.told)[-2:] == local_losses
            (actor,) = machines.all[1].processes("ray::_Node")
            actor.kill()
        assert training.end() == 5
    assert "starting again from the beginning" in training.told
    assert training.told.count("on node2 is lost with its host") == 2
