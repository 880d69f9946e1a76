"""While decisions are replayed, nobody in the process can open a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading

import pytest

from rudder.tools.offline import SocketOpenedError, no_sockets


def test_no_socket_can_be_opened() -> None:
    with pytest.raises(SocketOpenedError), no_sockets():
        socket.socket()


def test_no_address_can_be_asked_for() -> None:
    with pytest.raises(SocketOpenedError), no_sockets():
        socket.getaddrinfo("localhost", 80)


def test_a_socket_that_was_open_before_cannot_be_connected() -> None:
    with socket.socket() as line, pytest.raises(SocketOpenedError), no_sockets():
        line.connect(("127.0.0.1", 9))


def test_an_attempt_that_is_swallowed_is_told_at_the_end() -> None:
    reached: list[int] = []

    def attempt() -> None:
        with contextlib.suppress(Exception):
            socket.create_connection(("127.0.0.1", 9))
        reached.append(1)

    with pytest.raises(SocketOpenedError), no_sockets():
        attempt()
    assert reached


def test_other_threads_are_held_to_it_too() -> None:
    def attempt() -> None:
        with contextlib.suppress(SocketOpenedError):
            socket.socket()

    def elsewhere() -> None:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    with pytest.raises(SocketOpenedError), no_sockets():
        elsewhere()


def test_sockets_work_again_afterwards_and_an_event_loop_works_within() -> None:
    async def wait() -> str:
        with no_sockets():
            await asyncio.sleep(0.001)
            return await asyncio.to_thread(str, 5)

    assert asyncio.run(wait()) == "5"
    with no_sockets(), no_sockets():
        pass
    socket.socket().close()


def test_methods_of_sockets_are_as_before_afterwards() -> None:
    methods, lookup = dict(vars(socket.socket)), socket.getaddrinfo
    with no_sockets():
        assert socket.getaddrinfo is not lookup
    assert dict(vars(socket.socket)) == methods
    assert socket.getaddrinfo is lookup


def test_no_audit_hook_is_left_in_the_process() -> None:
    """Beside one, a new thread may fail where a debugger or a coverage tool traces it."""
    code = (
        "import sys; from rudder.tools.offline import no_sockets; added = []\n"
        "sys.addaudithook(lambda event, _: event == 'sys.addaudithook' and added.append(event))\n"
        "with no_sockets(): pass\n"
        "sys.exit(len(added))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
