"""The wire to servers that know DGL's own requests only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from dgl.distributed import rpc
from dgl.distributed.graph_services import SamplingRequest
from dgl.distributed.kvstore import PullRequest

from rudder.training.partition_view import IntArray
from rudder.training.sampling import kernels
from rudder.training.sampling.neighbor import Edges, LayerDraw
from rudder.training.wire.wire import Answer, receive_message


@dataclass
class _OpenPull:
    missing: int
    rows: dict[str, torch.Tensor] = field(default_factory=dict)


class StockWire:
    """DGL's own requests, for servers that know no others."""

    def __init__(self, *, with_edge_ids: bool) -> None:
        self._with_edge_ids = with_edge_ids
        self._questions: dict[int, IntArray] = {}
        self._pulls: dict[int, tuple[int, str]] = {}
        self._open_pulls: dict[int, _OpenPull] = {}
        self.num_open = 0

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        """Ask a server of `owner` for in-edges, which DGL draws with its own generator."""
        (ticket,) = rpc.send_requests_to_machine(
            [(owner, SamplingRequest(torch.from_numpy(nodes), draw.fanout))]
        )
        self._questions[ticket] = nodes
        self.num_open += 1
        return int(ticket)

    def pull(self, owner: int, ids: IntArray, names: Sequence[str], *, first: int) -> int:
        """Ask a server of `owner` for rows, a request per name; it knows global ids."""
        wanted = torch.from_numpy(ids)
        requests = [(owner, PullRequest(name, wanted)) for name in names]
        tickets = rpc.send_requests_to_machine(requests)
        lowest = int(min(tickets))
        for ticket, position in tickets.items():
            self._pulls[ticket] = (lowest, names[position])
        self._open_pulls[lowest] = _OpenPull(missing=len(names))
        self.num_open += len(names)
        return lowest

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for messages until an answer is complete."""
        while (message := receive_message(timeout_ms)) is not None:
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
