"""A stock training script with `NodeLoader`, which does not know what launched it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import dgl
import torch

from rudder.training.errors import ConfigError
from rudder.training.loader import BufferOptions, NodeLoader, RunOptions, SteeringOptions
from rudder.training.wire.services import register_services


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph-name", required=True)
    parser.add_argument("--part-config", required=True)
    parser.add_argument("--ip-config", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--steer", action="store_true")
    parser.add_argument("--rows", type=float, help="set all features to this number first")
    parser.add_argument("--write", action="store_true", help="write rows while an epoch runs")
    args = parser.parse_args()

    if args.rows is not None:
        register_services()
    dgl.distributed.initialize(args.ip_config)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    seeds = dgl.distributed.node_split(g.ndata["train_mask"], g.get_partition_book())
    loader = NodeLoader(
        g,
        seeds,
        dgl.dataloading.NeighborSampler([5, 10]),
        batch_size=128,
        inputs=["feat"],
        outputs=["label"],
        buffer=BufferOptions(memory_budget_bytes=2**20),
        steering=SteeringOptions() if args.steer else None,
        run=RunOptions(folder=args.scratch / "run"),
    )
    if args.rows is not None:
        nodes = torch.arange(g.num_nodes())
        g.ndata["feat"][nodes] = torch.full((len(nodes), *g.ndata["feat"].shape[1:]), args.rows)
    same, visited = True, []
    for input_nodes, nodes, blocks in loader:
        same &= args.rows is None or bool((blocks[0].srcdata["feat"] == args.rows).all())
        visited.append(nodes)
        same &= torch.equal(blocks[0].srcdata["feat"], g.ndata["feat"][input_nodes])
        same &= torch.equal(blocks[-1].dstdata["label"], g.ndata["label"][nodes])
    found = {
        "same": same,
        "all_seeds": torch.equal(torch.cat(visited).sort().values, seeds.sort().values),
        "budget_rows": loader.memory().budget_bytes // loader.row_bytes,
        "host_budget_rows": 2**20 // loader.row_bytes,
    }
    if args.rows is not None:
        stock = dgl.dataloading.DistNodeDataLoader(
            g, seeds, dgl.dataloading.NeighborSampler([5, 10]), batch_size=128
        )
        found["same"] &= sum(len(nodes) for _, nodes, _ in stock) == len(seeds)
    if args.write:
        found["refuses_writes"] = False
        try:
            for input_nodes, _, blocks in loader:
                g.ndata["feat"][input_nodes] = blocks[0].srcdata["feat"] + 1
        except ConfigError:
            found["refuses_writes"] = True
    print(json.dumps(found), flush=True)
    loader.close()


if __name__ == "__main__":
    main()
