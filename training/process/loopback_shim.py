"""Makes DistDGL work for several hosts on one network and one /dev/shm (see `loopback`).

DGL asks the network interfaces which host it is on, and names shared memory after the graph
only. Both answers are replaced here, in this process, before `dgl.distributed.initialize`.
"""

from __future__ import annotations

import socket

from dgl.distributed import rpc_client

from rudder.training.process.segment_names import set_prefix


def install(*, address: str, shm_prefix: str) -> None:
    """Make this process one of the host `address`, with segments named `shm_prefix...`."""
    rpc_client.local_ip4_addr_list = lambda: {address}
    rpc_client.get_local_usable_addr = lambda _: f"{address}:{_free_port(address)}"
    set_prefix(shm_prefix)


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
