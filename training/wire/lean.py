"""The wire to servers that know Rudder's own requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from dgl.distributed import rpc

from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling.neighbor import Edges, LayerDraw
from rudder.training.wire.services import PullManyRequest, PullManyResponse, SampleRequest
from rudder.training.wire.wire import Answer, receive_message


class LeanWire:
    """Rudder's own requests: narrow ids, several tensors at once, no destinations sent back."""

    def __init__(self, view: PartitionView, *, with_edge_ids: bool) -> None:
        self._with_edge_ids = with_edge_ids
        self._names: dict[int, tuple[str, ...]] = {}
        self.num_open = 0
        self._num_nodes = view.num_nodes

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        """Ask a server of `owner` for in-edges."""
        ids = _narrow(nodes, below=self._num_nodes)
        return self._send(owner, SampleRequest(ids, draw, self._with_edge_ids))

    def pull(self, owner: int, ids: IntArray, names: Sequence[str], *, first: int) -> int:
        """Ask a server of `owner` for rows."""
        local = ids - first
        below = int(local.max(initial=0)) + 1
        ticket = self._send(owner, PullManyRequest("\n".join(names), _narrow(local, below=below)))
        self._names[ticket] = tuple(names)
        return ticket

    def _send(self, owner: int, request: rpc.Request) -> int:
        (ticket,) = rpc.send_requests_to_machine([(owner, request)])
        self.num_open += 1
        return int(ticket)

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for one message."""
        message = receive_message(timeout_ms)
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


def _narrow(ids: IntArray, *, below: int) -> torch.Tensor:
    """The ids in four bytes each, where they fit."""
    return torch.from_numpy(ids.astype(np.int32 if below <= 2**31 else np.int64))
