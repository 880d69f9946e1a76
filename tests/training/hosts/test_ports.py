from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.host import is_free, reserve_ports


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    """An address of the loopback network and a port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.9.8.7", 0))
        listener.listen()
        yield listener.getsockname()


def test_port_with_a_listener_is_not_free(taken: tuple[str, int]) -> None:
    address, port = taken
    assert not is_free(port, address=address)
    assert is_free(port, address="127.9.8.8")


def test_wanted_port_that_is_taken_is_named(taken: tuple[str, int]) -> None:
    address, port = taken
    with pytest.raises(MachineError, match=rf"port {port} is in use on {address}") as caught:
        reserve_ports(2, addresses=[address], first=port - 1)
    assert f"sport = :{port}" in caught.value.remedy


def test_wanted_port_counts_as_taken_by_a_listener_on_any_address(taken: tuple[str, int]) -> None:
    _, port = taken
    with pytest.raises(MachineError, match="on this machine"):
        reserve_ports(1, addresses=["127.9.8.8"], first=port)


def test_search_finds_ports_in_a_row() -> None:
    first = reserve_ports(3, addresses=["127.0.0.1"], first=None)
    assert all(is_free(port, address="127.0.0.1") for port in range(first, first + 3))
