"""Rudder's layers on the CPU, the same on plain tensors as on a GPU, and DGL's, in turns."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import dgl
import dgl.nn
import torch

from benchmarks.shared import run_study
from rudder.training.model.aggregation import TensorBlock
from rudder.training.model.layers import GatLayer, GcnLayer, GinLayer, Layer, SageLayer

_WIDTH, _HEADS = 64, 4


def _mlp(in_dim: int) -> torch.nn.Module:
    first, second = torch.nn.Linear(in_dim, _WIDTH), torch.nn.Linear(_WIDTH, _WIDTH)
    return torch.nn.Sequential(first, torch.nn.ReLU(), second)


LAYERS: dict[str, tuple[Callable[[int], Layer], Callable[[int], Any]]] = {
    "sage": (lambda x: SageLayer(x, _WIDTH), lambda x: dgl.nn.SAGEConv(x, _WIDTH, "mean")),
    "gcn": (lambda x: GcnLayer(x, _WIDTH), lambda x: dgl.nn.SAGEConv(x, _WIDTH, "gcn")),
    "gin": (
        lambda x: GinLayer(x, _WIDTH),
        lambda x: dgl.nn.GINConv(_mlp(x), "mean", learn_eps=True),
    ),
    "gat": (
        lambda x: GatLayer(x, _WIDTH // _HEADS, _HEADS, last=False),
        lambda x: dgl.nn.GATConv(x, _WIDTH // _HEADS, _HEADS, residual=True),
    ),
}
"""Rudder's and DGL's, of so many inputs."""


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


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, object]]:
    torch.set_num_threads(1)
    cases = {
        "first": (_block(num_dst=3000, fanout=10, num_src=20_000), torch.randn(20_000, 128)),
        "second": (
            _block(num_dst=512, fanout=5, num_src=3000),
            torch.randn(3000, 64, requires_grad=True),
        ),
    }
    for (name, (make, make_dgls)), (place, (block, x)) in product(LAYERS.items(), cases.items()):
        ours, theirs = make(x.shape[1]), make_dgls(x.shape[1])
        theirs.__dict__["_allow_zero_in_degree"] = True
        tensors = TensorBlock.of(block, torch.device("cpu"))
        takes = {"rudder": (ours, block), "tensors": (ours, tensors), "dgl": (theirs, block)}
        seconds: dict[str, list[float]] = {kind: [] for kind in takes}
        for _ in range(options.repeats):
            for kind, (layer, each) in takes.items():
                seconds[kind].append(_seconds(layer, each, x))
        found = {kind: round(1000 * median(times), 2) for kind, times in seconds.items()}
        yield {"layer": name, "block": place, "milliseconds": found}


if __name__ == "__main__":
    run_study(__doc__, measure, repeats=15)
