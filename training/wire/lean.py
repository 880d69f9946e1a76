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
        self._view = view
        self._with_edge_ids = with_edge_ids
        self._names: dict[int, tuple[str, ...]] = {}
        self.num_open = 0
        self._narrow = np.int32 if view.num_nodes < 2**31 else np.int64

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        """Ask a server of `owner` for in-edges."""
        ids = torch.from_numpy(nodes.astype(self._narrow))
        return self._send(owner, SampleRequest(ids, draw, self._with_edge_ids))

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
