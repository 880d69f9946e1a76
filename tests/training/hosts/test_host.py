from __future__ import annotations

import subprocess

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Host


def host(address: str, prefix: tuple[str, ...] = ()) -> Host:
    return Host(name="host0", address=address, interface="lo", num_cores=1, prefix=prefix)


@pytest.mark.parametrize("address", ["127.3.2.1", "10.77.0.1", "192.168.1.9", "172.20.0.4"])
def test_host_takes_a_private_address(address: str) -> None:
    assert host(address).address == address


@pytest.mark.parametrize("address", ["8.8.8.8", "0.0.0.0", "93.184.216.34", "224.0.0.1"])
def test_host_refuses_an_address_that_strangers_reach(address: str) -> None:
    with pytest.raises(MachineError, match=f"public address {address}"):
        host(address)


def test_host_refuses_a_name_for_an_address() -> None:
    with pytest.raises(MachineError, match="not an IP address"):
        host("localhost")


def test_command_runs_behind_the_prefix_with_the_variables() -> None:
    argv = host("127.0.0.1", prefix=("nice", "-n", "1")).command(
        ["sh", "-c", 'echo "$A"'], variables={"A": "two words"}
    )
    assert argv[:3] == ["nice", "-n", "1"]
    assert subprocess.check_output(argv, text=True) == "two words\n"
