"""The only file that speaks to `dgl.distributed`: the local partition, and requests to others.

DGL's client RPC is not safe to use from two threads, so a `Wire` belongs to one thread, and
while it has open requests nobody else in the process may use DGL's RPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dgl
import numpy as np
import torch
from dgl.distributed import rpc
from dgl.distributed.graph_services import SamplingRequest
from dgl.distributed.kvstore import PullRequest

from rudder.training.errors import DataError
from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling import kernels
from rudder.training.sampling.neighbor import Edges, NeighborSampling

_SAMPLE_SERVICE = 720_501
_PULL_SERVICE = 720_502
_COUNT_SERVICE = 720_503

Rows = Mapping[str, torch.Tensor]
Answer = Edges | Rows


def view_of(graph: Any, *, with_edge_ids: bool = False) -> PartitionView:
    """See the local partition of a `dgl.distributed.DistGraph` without copying its edges.

    Raises DataError for a heterogeneous graph and for a partition without in-edges in CSC.
    """
    if len(graph.ntypes) != 1 or len(graph.etypes) != 1:
        raise DataError(
            f"the graph has node types {graph.ntypes} and edge types {graph.canonical_etypes};"
            " Rudder's loader does not know heterogeneous graphs yet (it lacks: typed halo"
            " numbering, sampling per edge type, one buffer per node type)",
            remedy="use dgl.dataloading.DistNodeDataLoader for this graph",
        )
    return _view(graph.local_partition, graph.get_partition_book(), with_edge_ids=with_edge_ids)


def _view(local: Any, book: Any, *, with_edge_ids: bool) -> PartitionView:
    sizes = [part["num_nodes"] for part in book.metadata()]
    starts = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=starts[1:])
    indptr, indices, positions = (tensor.numpy() for tensor in local.adj_tensors("csc"))
    num_inner = sizes[book.partid]
    edge_ids = None
    if with_edge_ids:
        by_edge = local.edata[dgl.EID].numpy()
        edge_ids = by_edge[positions] if len(positions) else by_edge
    return PartitionView(
        part=int(book.partid),
        starts=starts,
        indptr=indptr[: num_inner + 1],
        indices=indices,
        halo=local.ndata[dgl.NID].numpy()[num_inner:],
        csc_edge_ids=edge_ids,
    )


class SampleRequest(rpc.Request):  # type: ignore[misc]
    """Draw in-edges of nodes that the server owns."""

    def __init__(self, nodes: torch.Tensor, fanout: int, with_edge_ids: bool) -> None:
        self._state = (nodes, fanout, with_edge_ids)

    def __getstate__(self) -> Any:
        return self._state

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def process_request(self, server_state: Any) -> SampleResponse:
        """Draw on the server."""
        nodes, fanout, with_edge_ids = self._state
        sampling = _server_sampling(server_state, with_edge_ids)
        edges = sampling.draw(nodes.numpy().astype(np.int64), fanout)
        narrow = nodes.numpy().dtype
        edge_ids = edges.edge_ids if edges.edge_ids is not None else np.empty(0, dtype=np.int64)
        return SampleResponse(
            torch.from_numpy(edges.counts.astype(np.int32)),
            torch.from_numpy(edges.sources.astype(narrow)),
            torch.from_numpy(edge_ids),
        )


class SampleResponse(rpc.Response):  # type: ignore[misc]
    """int32[n] counts, the sources in the request's id type, int64 edge ids or none."""

    def __init__(self, counts: torch.Tensor, sources: torch.Tensor, edge_ids: torch.Tensor) -> None:
        self.state = (counts, sources, edge_ids)

    def __getstate__(self) -> Any:
        return self.state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class PullManyRequest(rpc.Request):  # type: ignore[misc]
    """Rows of several named tensors for nodes that the server owns (ids local to it)."""

    def __init__(self, names: str, local_ids: torch.Tensor) -> None:
        self._state = (names, local_ids)

    def __getstate__(self) -> Any:
        return self._state

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def process_request(self, server_state: Any) -> PullManyResponse:
        """Read the rows on the server."""
        names, local_ids = self._state
        store = server_state.kv_store.data_store
        index = local_ids.long()
        wanted = names.split("\n")
        _rows_sent(server_state, len(index) * len(wanted))
        return PullManyResponse(tuple(store[name].index_select(0, index) for name in wanted))


class PullManyResponse(rpc.Response):  # type: ignore[misc]
    """One tensor of rows per name."""

    def __init__(self, rows: tuple[torch.Tensor, ...]) -> None:
        self.rows = rows

    def __getstate__(self) -> Any:
        return self.rows

    def __setstate__(self, state: Any) -> None:
        self.rows = state if isinstance(state, tuple) else (state,)


class CountRequest(rpc.Request):  # type: ignore[misc]
    """Ask how many rows a server has sent for `PullManyRequest`s."""

    def __getstate__(self) -> Any:
        return 0

    def __setstate__(self, state: Any) -> None:
        pass

    def process_request(self, server_state: Any) -> CountResponse:
        """Read the counter on the server."""
        return CountResponse(_rows_sent(server_state, 0))


class CountResponse(rpc.Response):  # type: ignore[misc]
    """The counter."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __getstate__(self) -> Any:
        return self.rows

    def __setstate__(self, state: Any) -> None:
        self.rows = state


def _rows_sent(server_state: Any, more: int) -> int:
    total = int(getattr(server_state, "rudder_rows_sent", 0)) + more
    server_state.rudder_rows_sent = total
    return total


def _server_sampling(server_state: Any, with_edge_ids: bool) -> NeighborSampling:
    name = f"rudder_sampling_{with_edge_ids}"
    sampling = getattr(server_state, name, None)
    if sampling is None:
        view = _view(server_state.graph, server_state.partition_book, with_edge_ids=with_edge_ids)
        sampling = NeighborSampling(view, seed=rpc.get_rank() + 1)
        setattr(server_state, name, sampling)
    return sampling


def register_services() -> None:
    """Teach this process Rudder's lean requests; call it before `dgl.distributed.initialize`.

    Servers and trainers must both have done so before a `LeanWire` is used.
    """
    rpc.register_service(_SAMPLE_SERVICE, SampleRequest, SampleResponse)
    rpc.register_service(_PULL_SERVICE, PullManyRequest, PullManyResponse)
    rpc.register_service(_COUNT_SERVICE, CountRequest, CountResponse)


def services_registered() -> bool:
    """Whether this process has called `register_services`."""
    return _PULL_SERVICE in rpc.SERVICE_ID_TO_PROPERTY


def rows_sent_by_servers() -> int:
    """Sum over all servers of rows sent; only while no other request of this process is open."""
    requests = [(server, CountRequest()) for server in range(rpc.get_num_server())]
    total = 0
    for server, request in requests:
        rpc.send_request(server, request)
        total += rpc.recv_response().rows
    return total


class Wire(Protocol):
    """Requests to the servers of other partitions, answered in any order."""

    @property
    def num_open(self) -> int:
        """Requests that are not answered yet."""

    def sample(self, owner: int, nodes: IntArray, fanout: int) -> int:
        """Ask for in-edges; returns the ticket that `receive` will name. Never waits."""

    def pull(self, owner: int, nodes: IntArray, names: Sequence[str]) -> int:
        """Ask for rows of named tensors (DistTensor.kvstore_key); returns the ticket."""

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for the next complete answer, at most so long."""


class LeanWire:
    """Rudder's own requests: narrow ids, several tensors at once, no destinations sent back."""

    def __init__(self, view: PartitionView, *, with_edge_ids: bool) -> None:
        self._view = view
        self._with_edge_ids = with_edge_ids
        self._names: dict[int, tuple[str, ...]] = {}
        self.num_open = 0
        self._narrow = np.int32 if view.num_nodes < 2**31 else np.int64

    def sample(self, owner: int, nodes: IntArray, fanout: int) -> int:
        """Ask a server of `owner` for in-edges."""
        ids = torch.from_numpy(nodes.astype(self._narrow))
        return self._send(owner, SampleRequest(ids, fanout, self._with_edge_ids))

    def pull(self, owner: int, nodes: IntArray, names: Sequence[str]) -> int:
        """Ask a server of `owner` for rows."""
        ids = torch.from_numpy((nodes - self._view.starts[owner]).astype(self._narrow))
        ticket = self._send(owner, PullManyRequest("\n".join(names), ids))
        self._names[ticket] = tuple(names)
        return ticket

    def _send(self, owner: int, request: rpc.Request) -> int:
        (ticket,) = rpc.send_requests_to_machine([(owner, request)])
        self.num_open += 1
        return int(ticket)

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for one message."""
        message = _receive(timeout_ms)
        if message is None:
            return None
        self.num_open -= 1
        ticket, response = message
        if isinstance(response, PullManyResponse):
            return ticket, dict(zip(self._names.pop(ticket), response.rows, strict=True))
        counts, sources, edge_ids = (tensor.numpy() for tensor in response.state)
        return ticket, Edges(
            counts=counts.astype(np.int64),
            sources=sources.astype(np.int64),
            edge_ids=edge_ids if self._with_edge_ids else None,
        )


@dataclass
class _OpenPull:
    missing: int
    rows: dict[str, torch.Tensor] = field(default_factory=dict)


class StockWire:
    """DGL's own requests, for servers that know no others."""

    def __init__(self, view: PartitionView, *, with_edge_ids: bool) -> None:
        self._with_edge_ids = with_edge_ids
        self._questions: dict[int, IntArray] = {}
        self._pulls: dict[int, tuple[int, str]] = {}
        self._open_pulls: dict[int, _OpenPull] = {}
        self.num_open = 0

    def sample(self, owner: int, nodes: IntArray, fanout: int) -> int:
        """Ask a server of `owner` for in-edges."""
        (ticket,) = rpc.send_requests_to_machine(
            [(owner, SamplingRequest(torch.from_numpy(nodes), fanout))]
        )
        self._questions[ticket] = nodes
        self.num_open += 1
        return int(ticket)

    def pull(self, owner: int, nodes: IntArray, names: Sequence[str]) -> int:
        """Ask a server of `owner` for rows, a request per name."""
        ids = torch.from_numpy(nodes)
        tickets = rpc.send_requests_to_machine([(owner, PullRequest(name, ids)) for name in names])
        first = int(min(tickets))
        for ticket, position in tickets.items():
            self._pulls[ticket] = (first, names[position])
        self._open_pulls[first] = _OpenPull(missing=len(names))
        self.num_open += len(names)
        return first

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for messages until an answer is complete."""
        while (message := _receive(timeout_ms)) is not None:
            self.num_open -= 1
            ticket, response = message
            if ticket in self._questions:
                return ticket, self._edges(self._questions.pop(ticket), response)
            first, name = self._pulls.pop(ticket)
            pull = self._open_pulls[first]
            pull.rows[name] = response.data_tensor
            if len(pull.rows) == pull.missing:
                del self._open_pulls[first]
                return first, pull.rows
        return None

    def _edges(self, nodes: IntArray, response: Any) -> Edges:
        destinations = response.global_dst.numpy()
        sources, edge_ids = response.global_src.numpy(), response.global_eids.numpy()
        counts = np.empty(len(nodes), dtype=np.int64)
        if not kernels.count_runs(nodes, destinations, counts):
            order, counts = _group(nodes, destinations)
            sources, edge_ids = sources[order], edge_ids[order]
        return Edges(
            counts=counts, sources=sources, edge_ids=edge_ids if self._with_edge_ids else None
        )


def _group(nodes: IntArray, destinations: IntArray) -> tuple[IntArray, IntArray]:
    """Order of edges that groups them as `nodes` go, and the edges of each."""
    by_id = np.argsort(nodes)
    place = by_id[np.searchsorted(nodes[by_id], destinations)]
    return np.argsort(place, kind="stable"), np.bincount(place, minlength=len(nodes))


def _receive(timeout_ms: int) -> tuple[int, Any] | None:
    message = rpc.recv_rpc_message(timeout_ms)
    if message is None:
        return None
    _, response_class = rpc.SERVICE_ID_TO_PROPERTY[message.service_id]
    response = rpc.deserialize_from_payload(response_class, message.data, message.tensors)
    return int(message.msg_seq), response
