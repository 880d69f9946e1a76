"""The interface of a wire: requests are sent without waiting, and answers come back in any order.

A wire belongs to one thread: `rpc_gate` gives answers to the thread that sent the requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from dgl.distributed import rpc

from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import Edges, LayerDraw

Rows = Mapping[str, torch.Tensor]
"""Rows of named tensors, in the order in which they were asked for."""
Answer = Edges | Rows


class Wire(Protocol):
    """Requests to the servers of other partitions, answered in any order."""

    @property
    def num_open(self) -> int:
        """Requests that are not answered yet."""

    def sample(self, owner: int, nodes: IntArray, draw: LayerDraw) -> int:
        """Ask for in-edges; returns the ticket that `receive` will name. Never waits."""

    def pull(self, owner: int, ids: IntArray, names: Sequence[str], *, first: int) -> int:
        """Ask for rows of named tensors (DistTensor.kvstore_key); returns the ticket.

        ids: int64[n] global ids of nodes, or of edges; first: the owner's first one.
        """

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        """Wait for the next complete answer, at most so long."""


def num_bytes_of(answer: Answer) -> int:
    """Bytes of rows in an answer; 0 of one about edges."""
    if isinstance(answer, Edges):
        return 0
    return sum(rows.nbytes for rows in answer.values())


def receive_message(timeout_ms: int) -> tuple[int, Any] | None:
    """Ticket and response of the next message, None when the time is up."""
    message = rpc.recv_rpc_message(timeout_ms)
    if message is None:
        return None
    _, response_class = rpc.SERVICE_ID_TO_PROPERTY[message.service_id]
    response = rpc.deserialize_from_payload(response_class, message.data, message.tensors)
    return int(message.msg_seq), response
