"""Cuts a graph as somebody without Rudder does; parts are in DGL's form and in GraphBolt's."""

from __future__ import annotations

import sys

import dgl
import numpy as np
import torch

arrays = np.load(sys.argv[1])
graph = dgl.graph((arrays["src"], arrays["dst"]), num_nodes=len(arrays["labels"]))
half = arrays["features"].shape[1] // 2
graph.ndata["first"] = torch.from_numpy(arrays["features"][:, :half])
graph.ndata["second"] = torch.from_numpy(arrays["features"][:, half:]).double()
graph.ndata["y"] = torch.from_numpy(arrays["labels"]).float().view(-1, 1)
graph.ndata["is_train"] = torch.from_numpy(arrays["train_mask"])
graph.ndata["is_test"] = torch.from_numpy(arrays["test_mask"]).to(torch.uint8)
graph.edata["weight"] = torch.from_numpy(arrays["src"] % 2 == arrays["dst"] % 2).float() + 0.5
dgl.distributed.partition_graph(graph, "other", 2, sys.argv[2], use_graphbolt=True)
