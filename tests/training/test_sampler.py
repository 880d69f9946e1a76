"""Draws of the sampler that a run's config names, on a graph of DistDGL in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WEIGHTED = """
import sys
import dgl
import torch
from rudder.training.config import run_config
from rudder.training.sources import sampler_of

torch.manual_seed(0)
graph = dgl.rand_graph(200, 4000)
src, dst = graph.edges()
graph.edata["weight"] = (src < dst).float()
ids, _ = dgl.distributed.partition_graph(graph, "w", 1, sys.argv[1], return_mapping=True)
dgl.distributed.initialize(None)
graph = dgl.distributed.DistGraph("w", part_config=sys.argv[1] + "/w.json")
sampler = sampler_of(run_config(fanout="3,3", edge_weight="weight"))
_, _, blocks = sampler.sample_blocks(graph, torch.arange(200))
for block in blocks:
    src, dst = block.edges()
    src, dst = ids[block.srcdata[dgl.NID][src]], ids[block.dstdata[dgl.NID][dst]]
    assert len(src) > 400, len(src)
    assert (src < dst).all()
"""


def test_edges_of_weight_0_are_never_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WEIGHTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
