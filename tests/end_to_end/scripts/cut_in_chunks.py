"""Cuts a graph as DGL's chunked (ParMETIS) pipeline and GraphStorm leave it.

A part has its nodes' in-edges only, and the halo that these reach. Types have names, and the JSON
is called metadata.json.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import dgl
import numpy as np
import torch

arrays, out = np.load(sys.argv[1]), Path(sys.argv[2])
num_nodes = len(arrays["labels"])
bounds = [0, num_nodes // 2, num_nodes]
EDGE = "paper:cites:paper"

parts, edge_bounds = {}, [0]
for part, (first, last) in enumerate(pairwise(bounds)):
    folder = out / f"part{part}"
    folder.mkdir(parents=True)
    inside = (arrays["dst"] >= first) & (arrays["dst"] < last)
    src, dst = arrays["src"][inside], arrays["dst"][inside]
    own = np.arange(first, last)
    ids = np.concatenate([own, np.setdiff1d(src, own)])
    place = np.full(num_nodes, -1)
    place[ids] = np.arange(len(ids))
    graph = dgl.graph((place[src], place[dst]), num_nodes=len(ids))
    graph.ndata[dgl.NID] = torch.from_numpy(ids)
    graph.ndata[dgl.NTYPE] = torch.zeros(len(ids), dtype=torch.int16)
    graph.ndata["inner_node"] = (torch.arange(len(ids)) < len(own)).to(torch.uint8)
    graph.edata[dgl.EID] = torch.arange(edge_bounds[-1], edge_bounds[-1] + len(src))
    graph.edata[dgl.ETYPE] = torch.zeros(len(src), dtype=torch.int32)
    graph.edata["inner_edge"] = torch.ones(len(src), dtype=torch.uint8)
    edge_bounds.append(edge_bounds[-1] + len(src))
    dgl.save_graphs(str(folder / "graph.dgl"), [graph])
    rows = {
        "paper/feat": torch.from_numpy(arrays["features"][own]),
        "paper/venue": torch.from_numpy(arrays["labels"][own]),
        "paper/train_mask": torch.from_numpy(arrays["train_mask"][own]).to(torch.int8),
        "paper/test_mask": torch.from_numpy(arrays["test_mask"][own]).to(torch.int8),
    }
    dgl.data.utils.save_tensors(str(folder / "node_feat.dgl"), rows)
    dgl.data.utils.save_tensors(str(folder / "edge_feat.dgl"), {})
    names = ("node_feats", "node_feat"), ("edge_feats", "edge_feat"), ("part_graph", "graph")
    parts[f"part-{part}"] = {key: f"part{part}/{file}.dgl" for key, file in names}

maps = [[list(ends) for ends in pairwise(each)] for each in (bounds, edge_bounds)]
content = {
    "edge_map": {EDGE: maps[1]},
    "etypes": {EDGE: 0},
    "graph_name": "papers",
    "halo_hops": 1,
    "node_map": {"paper": maps[0]},
    "ntypes": {"paper": 0},
    "num_edges": edge_bounds[-1],
    "num_nodes": num_nodes,
    "num_parts": 2,
    "part_method": "metis",
    **parts,
}
(out / "metadata.json").write_text(json.dumps(content, indent=4))
