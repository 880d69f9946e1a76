"""What Rudder's loader needs to know of a `dgl.distributed.DistGraph`: its local partition."""

from __future__ import annotations

from typing import Any

import dgl
import numpy as np
import torch
from dgl.distributed import role, rpc

from rudder.training.errors import ConfigError, DataError
from rudder.training.partition_view import PartitionView
from rudder.training.versions import check_stack


def view_of(graph: Any, *, with_edge_ids: bool = False) -> PartitionView:
    """See the local partition of a `dgl.distributed.DistGraph` without copying its edges.

    Raises ConfigError for another kind of graph, DataError for a heterogeneous graph and for a
    partition without in-edges in CSC. Raises MachineError for a dgl that Rudder was not made for.
    """
    check_stack()
    if not isinstance(graph, dgl.distributed.DistGraph):
        raise ConfigError.for_field(
            "graph", value=type(graph).__name__, allowed="a dgl.distributed.DistGraph",
            remedy="make one with dgl.distributed.DistGraph(name, part_config=...)",
        )  # fmt: skip
    if len(graph.ntypes) != 1 or len(graph.etypes) != 1:
        raise DataError(
            f"the graph has node types {graph.ntypes} and edge types {graph.canonical_etypes};"
            " Rudder's loader does not know heterogeneous graphs yet (it lacks: typed halo"
            " numbering, sampling per edge type, one buffer per node type)",
            remedy="use dgl.dataloading.DistNodeDataLoader for this graph",
        )
    local = graph.local_partition
    if not isinstance(local, dgl.DGLGraph):
        raise DataError(
            f"the local partition is a {type(local).__name__}; Rudder's loader reads DGLGraph",
            remedy="call dgl.distributed.initialize without use_graphbolt=True",
        )
    return partition_view(local, graph.get_partition_book(), with_edge_ids=with_edge_ids)


def edge_view_of(graph: Any) -> PartitionView:
    """Which partition of a DistGraph owns which edges: those into its own nodes."""
    book = graph.get_partition_book()
    ends = np.cumsum([part["num_edges"] for part in book.metadata()])
    return PartitionView.of_edges(part=int(book.partid), starts=np.concatenate([[0], ends]))


def partition_view(local: Any, book: Any, *, with_edge_ids: bool) -> PartitionView:
    """See a partition (DGLGraph in CSC) by its partition book; in a trainer or in a server.

    Raises DataError where the part's own nodes do not come first, in the order of their ids.
    """
    sizes = [part["num_nodes"] for part in book.metadata()]
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    indptr, indices, positions = (tensor.numpy() for tensor in local.adj_tensors("csc"))
    num_inner, first = sizes[book.partid], int(starts[book.partid])
    nodes = local.ndata[dgl.NID].numpy()
    if not np.array_equal(nodes[:num_inner], np.arange(first, first + num_inner)):
        raise DataError(
            f"part {book.partid} does not list its own nodes first and in the order of their ids,"
            " on which Rudder's loader relies",
            remedy="cut the graph again with DGL's partition_graph, or use DistNodeDataLoader",
        )
    edge_ids = None
    if with_edge_ids:
        by_edge = local.edata[dgl.EID].numpy()
        edge_ids = by_edge[positions] if len(positions) else by_edge
    return PartitionView(
        part=int(book.partid),
        starts=starts,
        indptr=indptr[: num_inner + 1],
        indices=indices,
        halo=nodes[num_inner:],
        csc_edge_ids=edge_ids,
    )


def trainer_rank() -> int:
    """Rank of this trainer: torch's where it is initialised, else DGL's among trainers."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return int(role.get_trainer_rank()) if role.get_role() == "default" else 0


def num_trainers() -> int:
    """Trainers of this job; 1 in standalone mode."""
    return max(1, len(role.PER_ROLE_RANK.get("default", ())))


def trainers_on_host() -> int:
    """Trainers of this job on this host, whatever launched them; 1 in standalone mode.

    Each trainer has told the servers on which host it is, so none is waited for.
    """
    if role.IS_STANDALONE:
        return 1
    rpc.send_request(0, role.GetRoleRequest())
    trainers = rpc.recv_response().role["default"]
    return sum(host == rpc.get_machine_id() for _, host in trainers)
