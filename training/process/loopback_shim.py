"""Makes DistDGL work for several hosts on one network and one /dev/shm (see `loopback`).

DGL asks the network interfaces which host it is on, and names shared memory after the graph
only. Both answers are replaced here, in this process, before `dgl.distributed.initialize`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import dgl
from dgl import heterograph_index
from dgl.distributed import dist_graph, graph_partition_book, kvstore, rpc_client, shared_mem_utils


def install(*, address: str, shm_prefix: str) -> None:
    """Make this process one of the host `address`, with segments named `shm_prefix...`."""
    rpc_client.local_ip4_addr_list = lambda: {address}
    rpc_client.get_local_usable_addr = lambda _: f"{address}:{_free_port(address)}"
    for module in (dist_graph, graph_partition_book, kvstore, shared_mem_utils):
        for name in ("empty_shared_mem", "exist_shared_mem_array"):
            if hasattr(module, name):
                setattr(module, name, _renamed(getattr(module, name), shm_prefix))
    heterograph_index.create_heterograph_from_shared_memory = _renamed(
        heterograph_index.create_heterograph_from_shared_memory, shm_prefix
    )
    share = dgl.DGLGraph.shared_memory
    dgl.DGLGraph.shared_memory = lambda graph, name, *arguments, **options: share(
        graph, shm_prefix + name, *arguments, **options
    )


def _renamed(function: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    """The function, with its first argument, the name of a segment, under the prefix."""

    def call(name: str, *arguments: Any) -> Any:
        return function(prefix + name.removeprefix("/"), *arguments)

    return call


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
