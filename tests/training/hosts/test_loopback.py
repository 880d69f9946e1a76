from __future__ import annotations

import socket

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.local import LoopbackCluster, open_cluster
from rudder.training.hosts.shared_memory import SHM_FOLDER


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


def test_rate_on_loopback_is_refused() -> None:
    with (
        pytest.raises(MachineError, match="100mbit needs a link"),
        open_cluster("loopback", num_hosts=2, rate="100mbit"),
    ):
        pass
