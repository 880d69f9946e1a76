"""Rudder's own requests to graph servers: narrow ids, several tensors at once, nothing twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dgl.distributed import rpc

from rudder.training.distdgl import partition_view
from rudder.training.process.lost_trainers import end_without_trainers
from rudder.training.process.segment_names import keep_job_apart, leave_job
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling

__all__ = ["register_services"]

_SAMPLE_SERVICE = 720_501
_PULL_SERVICE = 720_502
_COUNT_SERVICE = 720_503


class SampleRequest(rpc.Request):  # type: ignore[misc]
    """Draw in-edges of nodes that the server owns."""

    def __init__(self, nodes: torch.Tensor, draw: LayerDraw, with_edge_ids: bool) -> None:
        self._state = (nodes, draw.fanout, draw.key, with_edge_ids)

    def __getstate__(self) -> Any:
        return self._state

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def process_request(self, server_state: Any) -> SampleResponse:
        """Draw on the server."""
        nodes, fanout, key, with_edge_ids = self._state
        sampling = _server_sampling(server_state, with_edge_ids)
        edges = sampling.draw(nodes.numpy().astype(np.int64), LayerDraw(fanout, key))
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
    """Rows of several named tensors, of nodes or edges that the server owns (ids local to it)."""

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
        view = partition_view(
            server_state.graph, server_state.partition_book, with_edge_ids=with_edge_ids
        )
        sampling = NeighborSampling(view)
        setattr(server_state, name, sampling)
    return sampling


def register_services() -> None:
    """Prepare this process for Rudder; call it before `dgl.distributed.initialize`.

    Servers and trainers must both call it. Servers then sample with Rudder's code, and equal seeds
    give equal batches; DGL's own requests are sampled with a generator that no trainer can seed.
    The job's shared memory gets names of its own, so that several jobs may use one graph on one
    machine at once, and what killed jobs of this user have left there is removed. A server ends
    about 20 seconds after its last trainer was lost.

    Raises:
        MachineError: When `initialize` is called: shared memory cannot be written.
    """
    register_requests()
    keep_job_apart()
    end_without_trainers(leave_job)


def register_requests() -> None:
    """Teach this process Rudder's requests to graph servers."""
    rpc.register_service(_SAMPLE_SERVICE, SampleRequest, SampleResponse)
    rpc.register_service(_PULL_SERVICE, PullManyRequest, PullManyResponse)
    rpc.register_service(_COUNT_SERVICE, CountRequest, CountResponse)


def services_registered() -> bool:
    """Whether this process knows Rudder's requests."""
    return _PULL_SERVICE in rpc.SERVICE_ID_TO_PROPERTY


def rows_sent_by_servers() -> int:
    """Sum over all servers of rows sent."""
    requests = [(server, CountRequest()) for server in range(rpc.get_num_server())]
    total = 0
    for server, request in requests:
        rpc.send_request(server, request)
        total += rpc.recv_response().rows
    return total
