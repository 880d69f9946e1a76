"""Rudder's layers on the CPU, the same on plain tensors as on a GPU, and DGL's, in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import dgl
import dgl.nn
import torch

from benchmarks.shared import parser_of
from rudder.training.model.aggregation import TensorBlock
from rudder.training.model.layers import GatLayer, GcnLayer, GinLayer, Layer, SageLayer

_WIDTH, _HEADS = 64, 4


def _mlp(in_dim: int) -> torch.nn.Module:
    layers = (torch.nn.Linear(in_dim, _WIDTH), torch.nn.ReLU(), torch.nn.Linear(_WIDTH, _WIDTH))
    return torch.nn.Sequential(*layers)


LAYERS: dict[str, tuple[Callable[[int], Layer], Callable[[int], Any]]] = {
    "sage": (
        lambda width: SageLayer(width, _WIDTH),
        lambda width: dgl.nn.SAGEConv(width, _WIDTH, "mean"),
    ),
    "gcn": (
        lambda width: GcnLayer(width, _WIDTH),
        lambda width: dgl.nn.SAGEConv(width, _WIDTH, "gcn"),
    ),
    "gin": (
        lambda width: GinLayer(width, _WIDTH),
        lambda width: dgl.nn.GINConv(_mlp(width), "mean", learn_eps=True),
    ),
    "gat": (
        lambda width: GatLayer(width, _WIDTH // _HEADS, _HEADS, last=False),
        lambda width: dgl.nn.GATConv(width, _WIDTH // _HEADS, _HEADS, residual=True),
    ),
}


def _block(*, num_dst: int, fanout: int, num_src: int) -> dgl.DGLGraph:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(0, num_src, (num_dst * fanout,), generator=generator)
    indptr = torch.arange(0, len(sources) + 1, fanout)
    edges = ("csc", (indptr, sources, torch.arange(len(sources))))
    return dgl.create_block(edges, num_src_nodes=num_src, num_dst_nodes=num_dst)


def _seconds(layer: Any, block: Any, x: torch.Tensor) -> float:
    started = time.thread_time()
    layer(block, x).sum().backward()
    return time.thread_time() - started


def main() -> None:
    """Print a line of JSON for each layer and block."""
    options = parser_of(__doc__, repeats=15).parse_args()
    torch.set_num_threads(1)
    cases = {
        "first": (_block(num_dst=3000, fanout=10, num_src=20_000), torch.randn(20_000, 128)),
        "second": (
            _block(num_dst=512, fanout=5, num_src=3000),
            torch.randn(3000, 64, requires_grad=True),
        ),
    }
    for name, (make, make_dgls) in LAYERS.items():
        for place, (block, x) in cases.items():
            ours, theirs = make(x.shape[1]), make_dgls(x.shape[1])
            theirs.__dict__["_allow_zero_in_degree"] = True
            tensors = TensorBlock.of(block, torch.device("cpu"))
            takes = {"rudder": (ours, block), "tensors": (ours, tensors), "dgl": (theirs, block)}
            seconds: dict[str, list[float]] = {kind: [] for kind in takes}
            for _ in range(options.repeats):
                for kind, (layer, each) in takes.items():
                    seconds[kind].append(_seconds(layer, each, x))
            found = {kind: round(1000 * median(times), 2) for kind, times in seconds.items()}
            print(json.dumps({"layer": name, "block": place, "milliseconds": found}), flush=True)


if __name__ == "__main__":
    main()
