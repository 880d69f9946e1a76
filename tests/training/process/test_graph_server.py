from __future__ import annotations

import socket

from rudder.training.process.graph_server import is_listening


def test_kernel_tells_who_listens_without_a_connection() -> None:
    with socket.socket() as listener:
        listener.bind(("127.4.5.6", 0))
        port = listener.getsockname()[1]
        assert not is_listening("127.4.5.6", port)
        listener.listen()
        assert is_listening("127.4.5.6", port)
        assert not is_listening("127.4.5.7", port)
        listener.setblocking(False)
        try:
            listener.accept()
        except BlockingIOError:
            return
    raise AssertionError("somebody connected")
