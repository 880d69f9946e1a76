"""Connections of this process, found and touched without their owner's sockets."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from rudder.training.wire.tcp import Address, Connection, connections_of_this_process

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Who called, and who was called."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        called, _ = listener.accept()
    with caller, called:
        yield caller, called


def _connection_of(sock: socket.socket) -> Connection:
    own = Address(*sock.getsockname())
    (found,) = (each for each in connections_of_this_process() if each.own == own)
    return found


def _window_clamp(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)


def test_both_ends_of_a_connection_are_found(pair: Pair) -> None:
    caller, called = pair
    found = _connection_of(called)
    assert found.descriptor == called.fileno()
    assert found.peer == _connection_of(caller).own


def test_a_listener_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fds = [each.descriptor for each in connections_of_this_process()]
        assert listener.fileno() not in fds


def test_a_window_is_limited_and_opened_again(pair: Pair) -> None:
    _, called = pair
    connection = _connection_of(called)
    assert connection.limit_window(70_000)
    assert _window_clamp(called) == 70_000
    assert connection.limit_window(4_000_000)
    assert _window_clamp(called) == 4_000_000


def test_all_bytes_come_through_a_small_window(pair: Pair) -> None:
    caller, called = pair
    assert _connection_of(called).limit_window(64 * 1024)
    sent = os.urandom(1_000_000)
    caller.setblocking(False)
    received, rest = bytearray(), memoryview(sent)
    while len(received) < len(sent):
        if rest:
            rest = rest[caller.send(rest) :] if _may_send(caller) else rest
        received += called.recv(1 << 20)
    assert received == sent


def _may_send(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 0)[1])


def test_the_mode_of_a_socket_is_left_alone(pair: Pair) -> None:
    _, called = pair
    connection = _connection_of(called)
    socket.setdefaulttimeout(5.0)
    try:
        connection.limit_window(70_000)
        assert connection.min_round_trip_s is not None
    finally:
        socket.setdefaulttimeout(None)
    assert os.get_blocking(called.fileno())


def test_a_round_trip_on_this_machine_is_short(pair: Pair) -> None:
    caller, called = pair
    caller.sendall(b"question")
    called.recv(100)
    round_trip_s = _connection_of(caller).min_round_trip_s
    assert round_trip_s is not None
    assert 0 <= round_trip_s < 0.1


def test_a_closed_connection_is_left_alone(pair: Pair) -> None:
    _, called = pair
    connection = _connection_of(called)
    called.close()
    assert not connection.limit_window(70_000)
    assert connection.min_round_trip_s is None


def test_a_descriptor_that_is_used_again_is_left_alone(pair: Pair) -> None:
    caller, called = pair
    connection = _connection_of(called)
    before = _window_clamp(caller)
    os.dup2(caller.fileno(), called.fileno())
    assert not connection.limit_window(70_000)
    assert _window_clamp(caller) == before
