from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.local import (
    SHM_FOLDER,
    Claim,
    LoopbackCluster,
    leftover_segments,
    open_cluster,
    sweep,
)


def test_runs_at_once_get_different_addresses_and_names() -> None:
    with LoopbackCluster(num_hosts=2) as one, LoopbackCluster(num_hosts=2) as other:
        assert not {h.address for h in one.hosts} & {h.address for h in other.hosts}
        assert one.shm_prefix != other.shm_prefix


def test_hosts_can_be_listened_on() -> None:
    with LoopbackCluster(num_hosts=3) as cluster:
        port = cluster.reserve_ports(2, first=None)
        for host in cluster.hosts:
            socket.create_server((host.address, port)).close()


def test_wanted_port_in_use_is_named() -> None:
    with LoopbackCluster(num_hosts=2) as cluster:
        address = cluster.hosts[1].address
        with (
            socket.create_server((address, 0)) as listener,
            pytest.raises(MachineError, match=f"in use on {address}"),
        ):
            cluster.reserve_ports(1, first=listener.getsockname()[1])


def test_shared_memory_is_gone_with_the_cluster() -> None:
    with LoopbackCluster(num_hosts=1) as cluster:
        prefix = cluster.shm_prefix
        (SHM_FOLDER / f"{prefix}0.features").touch()
    assert not list(SHM_FOLDER.glob(f"{prefix}*"))


def test_claim_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    mine, theirs = (Claim(1, 2, folder=tmp_path) for _ in range(2))
    assert mine.take()
    assert not theirs.take()
    mine.release()
    assert theirs.take()
    theirs.release()
    assert not list(tmp_path.iterdir())


def test_sweep_takes_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    dead, living = Claim(1, 2, folder=tmp_path), Claim(3, 4, folder=tmp_path)
    for claim in (dead, living):
        assert claim.take()
        (tmp_path / f"{claim.prefix}0.features").touch()
    dead.unlock()  # as the kernel does when a launcher is killed
    assert [path.name for path in leftover_segments(tmp_path)] == ["rudder.1.2.0.features"]
    sweep(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["rudder.3.4.0.features", "rudder.3.4.lock"]
    living.release()


def test_rate_on_loopback_is_refused() -> None:
    with (
        pytest.raises(MachineError, match="100mbit needs a link"),
        open_cluster("loopback", num_hosts=2, rate="100mbit"),
    ):
        pass
