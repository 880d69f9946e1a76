"""`rudder train --hosts node1,node2`, with and without folders that all machines see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import ENDLESS, RUDDER, SHORT, START_SECONDS, Training, losses
from tests.cluster.machines import Machine, Machines
from tests.waiting import until

pytestmark = pytest.mark.cluster
HOSTS = ("--hosts", "node1,node2")


def test_machines_without_a_shared_folder_train_as_local_hosts_do(
    third: Machine, parts: Path, local_losses: list[str]
) -> None:
    shutil.copytree(parts, third.outside(third.disk / "parts"))
    data = ("--data", third.disk / "parts")
    with Training(third, *data, *HOSTS, *SHORT) as training:
        summary = training.summary()
    assert losses(training.told) == local_losses
    assert [rank.host for rank in summary.ranks] == ["node1", "node2"]
    logs = {path.name for path in third.outside(training.run_dir / "logs").iterdir()}
    assert logs >= {"rank0.log", "rank1.log", "server0.log", "server1.log"}


@pytest.fixture
def no_sockets(machines: Machines) -> Iterator[Path]:
    """A folder of node3 that all machines see over the network, without sockets or locks."""
    if not Path("/dev/fuse").exists():
        pytest.skip("sshfs needs /dev/fuse, which this machine lacks")
    folder = machines.folder / "over-network"
    folder.mkdir()
    server = machines.all[2]
    server.run("mkdir", server.disk / "exported")
    for machine in machines.all:
        machine.run(
            "sshfs", "-o", "dcache_timeout=1", f"{server.name}:{server.disk / 'exported'}", folder
        )
    yield folder
    for machine in machines.all:
        machine.run("umount", "-l", folder)


def test_run_is_steered_from_a_machine_that_takes_no_part_until_its_launcher_is_killed(
    machines: Machines, third: Machine, parts: Path, no_sockets: Path
) -> None:
    """Over links of 200 Mbit/s, from a launcher on another machine than the one that asks."""
    first, second = machines.all[:2]
    second.limit_link("200mbit")
    run = no_sockets / "run"
    options = ("--data", parts, *HOSTS, *ENDLESS)
    with Training(first, *options, run_dir=run) as training:
        training.wait_until_told("trainers are training")
        ask = (RUDDER, "set", "--run", run)
        assert "rank 1 applied from step" in third.run(*ask, "--rank", 1, "--capacity", 321)
        assert third.run(*ask).count("in force from step") == 2

        steer = (RUDDER, "steer")
        status = third.run(*steer, "status", "--run", run)
        assert status.startswith("steering is on\n")
        assert "controller" in status.splitlines()[2]
        assert "on node2" in status.splitlines()[2]
        third.run(*steer, "off", "--run", run)
        until(lambda: "steer_off" in _log(third, run, rank=1), within_s=START_SECONDS)
        assert third.run(*steer, "status", "--run", run).startswith("steering is off\n")
        third.run(*steer, "budget", "--run", run, "1MiB")
        third.run(*steer, "on", "--run", run)
        until(lambda: "applied" in _log(third, run, rank=0), within_s=START_SECONDS)
        training.launcher.kill()
    assert third.run(RUDDER, "audit", "verify", run)
    second.free_link()


def _log(machine: Machine, run: Path, *, rank: int) -> str:
    """Its last rows; until a first part of the record has come to the run's folder, why not."""
    return machine.told(RUDDER, "audit", "tail", run, "--rank", rank, "-n", 50)[0]
