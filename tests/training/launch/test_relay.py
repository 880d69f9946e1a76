"""The relay carries bytes both ways, and is gone when it is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from rudder.training.errors import RunError
from rudder.training.launch.relay import Relay
from tests.waiting import WAIT_SECONDS


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that answers each connection with what it was sent, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(ConnectionError):
                heard = b""
                while chunk := client.recv(65536):
                    heard += chunk
                client.sendall(heard.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def asked(path: Path, question: bytes) -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(WAIT_SECONDS)
        client.connect(str(path))
        answer = b""
        with suppress(ConnectionError):  # closed, with something unread
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            while chunk := client.recv(65536):
                answer += chunk
        return answer


def test_bytes_go_there_and_back(echo: int, tmp_path: Path) -> None:
    path = tmp_path / "llm.sock"
    with Relay(path, host="127.0.0.1", port=echo):
        assert path.stat().st_mode & 0o077 == 0
        assert asked(path, b"rudder " * 50_000) == b"RUDDER " * 50_000
        assert asked(path, b"again") == b"AGAIN"
    assert not path.exists()


def test_an_address_where_nobody_listens_is_a_closed_connection(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with Relay(tmp_path / "llm.sock", host="127.0.0.1", port=port):
        assert asked(tmp_path / "llm.sock", b"hello") == b""


def test_a_connection_that_is_open_does_not_keep_it_from_closing(echo: int, tmp_path: Path) -> None:
    path = tmp_path / "llm.sock"
    with closing(socket.socket(socket.AF_UNIX)) as client:
        with Relay(path, host="127.0.0.1", port=echo):
            client.connect(str(path))
            client.sendall(b"half a question")
        client.settimeout(WAIT_SECONDS)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_path_that_is_taken_is_told(tmp_path: Path) -> None:
    path = tmp_path / "llm.sock"
    path.write_text("notes")
    with pytest.raises(RunError, match="is no socket"), Relay(path, host="127.0.0.1", port=1):
        pass
    assert path.read_text() == "notes"
