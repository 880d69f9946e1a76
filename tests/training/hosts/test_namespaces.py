from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Host
from rudder.training.hosts.local import NamespaceCluster
from tests.waiting import WAIT_SECONDS, lives, until

RECEIVE = """
import socket, time
listener = socket.create_server(("10.77.0.2", 5000))
print("listening", flush=True)
stream, _ = listener.accept()
started, count = time.perf_counter(), 0
while chunk := stream.recv(1 << 16):
    count += len(chunk)
print(count * 8 / (time.perf_counter() - started))
"""
SEND = """
import socket, sys
socket.create_connection(("10.77.0.2", 5000)).sendall(bytes(int(sys.argv[1])))
"""
OWN_CLUSTER = """
import time
from rudder.training.hosts.local import NamespaceCluster
with NamespaceCluster(num_hosts=2) as cluster:
    print(cluster.hosts[0].prefix[1], flush=True)
    time.sleep(60)
"""


def _refusal() -> str:
    try:
        with NamespaceCluster(num_hosts=1, rate="1gbit"):
            return ""
    except MachineError as error:
        return str(error)


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if refusal := _refusal():
        pytest.skip(refusal)


@pytest.fixture(scope="module")
def cluster() -> Iterator[NamespaceCluster]:
    with NamespaceCluster(num_hosts=3) as cluster:
        yield cluster


def run(host: Host, *argv: str) -> str:
    return subprocess.check_output(
        host.command(argv, variables={}), text=True, timeout=WAIT_SECONDS
    )


def bits_per_second(sender: Host, receiver: Host, *, num_bytes: int) -> float:
    listener = subprocess.Popen(
        receiver.command([sys.executable, "-c", RECEIVE], variables={}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listener.stdout is not None
    assert listener.stdout.readline() == "listening\n"
    run(sender, sys.executable, "-c", SEND, str(num_bytes))
    return float(listener.communicate(timeout=WAIT_SECONDS)[0])


def test_hosts_have_names_and_addresses_of_their_own(cluster: NamespaceCluster) -> None:
    assert [host.name for host in cluster.hosts] == ["host0", "host1", "host2"]
    for host in cluster.hosts:
        assert f" {host.address}/24 " in run(host, "ip", "-4", "addr", "show", host.interface)


def test_hosts_reach_each_other(cluster: NamespaceCluster) -> None:
    first, second, _ = cluster.hosts
    assert bits_per_second(first, second, num_bytes=1_000_000) > 0


def test_shared_memory_of_a_host_is_its_own(cluster: NamespaceCluster) -> None:
    first, second, _ = cluster.hosts
    run(first, "touch", "/dev/shm/rudder-test")
    assert run(first, "ls", "/dev/shm") == "rudder-test\n"
    assert run(second, "ls", "/dev/shm") == ""


def test_command_runs_in_the_callers_folder_and_is_the_process_itself(
    cluster: NamespaceCluster,
) -> None:
    process = subprocess.Popen(
        cluster.hosts[0].command(["sh", "-c", "echo $$; pwd"], variables={}),
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, folder = process.communicate(timeout=WAIT_SECONDS)[0].splitlines()
    assert int(pid) == process.pid
    assert folder == subprocess.check_output(["pwd"], text=True).strip()


def test_two_clusters_at_once_do_not_meet(cluster: NamespaceCluster) -> None:
    with NamespaceCluster(num_hosts=2) as other:
        assert other.hosts[0].address == cluster.hosts[0].address
        run(cluster.hosts[0], "touch", "/dev/shm/mine")
        assert run(other.hosts[0], "ls", "/dev/shm") == ""


def test_rate_limits_what_a_host_sends() -> None:
    with NamespaceCluster(num_hosts=2, rate="100mbit") as limited:
        first, second = limited.hosts
        # A stop of either process makes one try slower or faster; no try comes near another rate.
        until(lambda: 80e6 < bits_per_second(first, second, num_bytes=8_000_000) < 110e6)


def test_bad_rate_is_refused_with_what_tc_says() -> None:
    with pytest.raises(MachineError, match="`tc`"), NamespaceCluster(num_hosts=1, rate="fast"):
        pass


def test_any_port_is_free_to_be_used(cluster: NamespaceCluster) -> None:
    assert cluster.reserve_ports(3, first=4711) == 4711
    assert cluster.reserve_ports(3, first=None) > 1024


def test_namespaces_vanish_with_a_killed_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWN_CLUSTER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    holder = owner.stdout.readline().removeprefix("--target=").strip()
    owner.kill()
    owner.communicate()
    until(lambda: not lives(int(holder)))
