"""A server draws for a trainer what the trainer would draw itself, whatever else it was asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dgl.distributed import rpc

from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from rudder.training.wire.services import SampleRequest, SampleResponse
from tests.training.loading.small_world import VIEWS


@pytest.mark.parametrize("key", [0, 2**63, 2**64 - 1])
def test_equal_keys_draw_equal_edges_on_a_server(key: int) -> None:
    nodes, draw = np.arange(VIEWS[2].first, VIEWS[2].last), LayerDraw(fanout=3, key=key)
    server = SimpleNamespace(rudder_sampling_False=NeighborSampling(VIEWS[2]))
    _asked(server, nodes[::2], LayerDraw(fanout=2, key=5))  # another trainer's request
    counts, sources, _ = _asked(server, nodes, draw)
    local = NeighborSampling(VIEWS[2]).draw(nodes, draw)
    assert counts.tolist() == local.counts.tolist()
    assert sources.tolist() == local.sources.tolist()


def _asked(server: SimpleNamespace, nodes: IntArray, draw: LayerDraw) -> tuple[torch.Tensor, ...]:
    """The answer, with request and response packed as DGL packs them."""
    request = SampleRequest(torch.from_numpy(nodes.astype(np.int32)), draw, False)
    sent = rpc.deserialize_from_payload(SampleRequest, *rpc.serialize_to_payload(request))
    response = rpc.serialize_to_payload(sent.process_request(server))
    state: tuple[torch.Tensor, ...] = rpc.deserialize_from_payload(SampleResponse, *response).state
    return state
