"""Puts a prefix before the names of shared memory that DGL makes and opens in this process.

DGL names it after the graph and the tensor only, so two jobs on one machine destroy each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import dgl
from dgl import graphbolt, heterograph_index
from dgl.distributed import dist_graph, graph_partition_book, kvstore, rpc, shared_mem_utils

from rudder.training.hosts.shared_memory import Claim, claim_of_job

_prefix = ""
_claims: dict[str, Claim] = {}


def set_prefix(prefix: str) -> None:
    """Names begin with `prefix` from now on; call it before DGL makes or opens any."""
    global _prefix
    _prefix = prefix
    _rename()


@cache
def keep_job_apart() -> None:
    """Let names begin with what all processes of one job have in common, and no other job.

    Call it before `dgl.distributed.initialize`, in servers and trainers. Sampler processes learn
    it from the graph that they are sent.
    """
    read = rpc.read_ip_config

    def read_ip_config(filename: str, num_servers: int) -> dict[int, list[Any]]:
        servers: dict[int, list[Any]] = read(filename, num_servers)
        key = str(servers)
        if key not in _claims:
            _claims[key] = claim_of_job(servers)
        set_prefix(_claims[key].prefix)
        return servers

    rpc.read_ip_config = read_ip_config
    dist_graph.DistGraph.__reduce__ = lambda graph: (
        _graph_of, (_prefix, graph.__getstate__()),
    )  # fmt: skip


def leave_job() -> None:
    """Give up the job's shared memory, as at a normal end of this process."""
    for claim in _claims.values():
        claim.leave()


def _graph_of(prefix: str, state: Any) -> Any:
    """A DistGraph in another process of the job."""
    set_prefix(prefix)
    graph = dist_graph.DistGraph.__new__(dist_graph.DistGraph)
    graph.__setstate__(state)
    return graph


@cache
def _rename() -> None:
    for module in (dist_graph, graph_partition_book, kvstore, shared_mem_utils):
        for name in ("empty_shared_mem", "exist_shared_mem_array"):
            if hasattr(module, name):
                setattr(module, name, _renamed(getattr(module, name)))
    heterograph_index.create_heterograph_from_shared_memory = _renamed(
        heterograph_index.create_heterograph_from_shared_memory
    )
    graphbolt.load_from_shared_memory = _renamed(graphbolt.load_from_shared_memory)
    for kind, method in (
        (dgl.DGLGraph, "shared_memory"),
        (graphbolt.FusedCSCSamplingGraph, "copy_to_shared_memory"),
    ):
        setattr(kind, method, _renamed_method(getattr(kind, method)))


def _renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its first argument, the name of a segment, under the prefix."""
    return lambda name, *arguments, **options: function(
        _prefix + name.removeprefix("/"), *arguments, **options
    )


def _renamed_method(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, name, *arguments, **options: method(
        self, _prefix + name, *arguments, **options
    )
