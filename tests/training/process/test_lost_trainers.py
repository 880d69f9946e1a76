"""A server of one's own script that has lost its trainers."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from rudder.training.hosts.host import reserve_ports
from tests.waiting import WAIT_SECONDS

SERVER = """
import sys, time
from dgl.distributed import rpc
from rudder.training.process import lost_trainers
lost_trainers._CHECK_SECONDS = 0.1
lost_trainers.end_without_trainers(lambda: print("cleaned up", flush=True))
rpc.create_receiver(1 << 20)
print("listens", flush=True)
rpc.wait_for_senders("127.0.0.1", int(sys.argv[1]), 2)
time.sleep(1)
print("serves", flush=True)
time.sleep(60)
"""


def connected(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.01)


def test_server_ends_when_its_last_trainer_is_gone_and_not_before() -> None:
    port = reserve_ports(1, addresses=["127.0.0.1"], first=None)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)],
        env={"DGL_ROLE": "server"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    with server:
        assert server.stdout.readline() == "listens\n"
        trainers = [connected(port) for _ in range(2)]
        trainers.pop().close()
        assert server.stdout.readline() == "serves\n"  # with one that is left
        trainers.pop().close()
        output, errors = server.communicate(timeout=WAIT_SECONDS)
    assert server.returncode == 1
    assert output == "cleaned up\n"
    assert "all trainers of this server are gone" in errors
