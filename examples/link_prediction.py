"""Link prediction on DistDGL, with Rudder's loader of edges in place of DGL's.

The lines that differ from the stock version are marked with `# rudder`; what they replace stands
beside them, marked with `# stock`. Start it with any launcher that sets DistDGL's variables, such
as DGL's `tools/launch.py`, in every server and trainer:

    python link_prediction.py --graph-name NAME --part-config PARTS/NAME.json --ip-config FILE
"""

import argparse
import itertools
import time

import dgl
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rudder.training.loader import EdgeLoader  # rudder


class SAGE(nn.Module):
    def __init__(self, in_dim: int, hidden: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden] * num_layers]
        self.layers = nn.ModuleList(
            dgl.nn.SAGEConv(a, b, "mean") for a, b in itertools.pairwise(widths)
        )

    def forward(self, blocks: list[dgl.DGLGraph], x: torch.Tensor) -> torch.Tensor:
        for i, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            x = layer(block, x)
            if i < len(self.layers) - 1:
                x = F.relu(x)
        return x


def score(graph: dgl.DGLGraph, h: torch.Tensor) -> torch.Tensor:
    """Dot product of the ends of each edge."""
    source, destination = graph.edges()
    return (h[source] * h[destination]).sum(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph-name", required=True)
    parser.add_argument("--part-config", required=True)
    parser.add_argument("--ip-config", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--max-edges", type=int, default=None, help="edges of a trainer and epoch")
    parser.add_argument("--check", action="store_true", help="compare with reads of DistTensors")
    args = parser.parse_args()

    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    every_edge = torch.ones(g.num_edges(), dtype=torch.bool)
    edges = dgl.distributed.edge_split(every_edge, g.get_partition_book())[: args.max_edges]
    sampler = dgl.dataloading.NeighborSampler([5, 10])
    negatives = dgl.dataloading.negative_sampler.PerSourceUniform(1)
    # stock: loader = dgl.dataloading.DistEdgeDataLoader(g, edges, sampler,
    # stock:     batch_size=args.batch_size, shuffle=True, drop_last=False,
    # stock:     negative_sampler=negatives)
    loader = EdgeLoader(  # rudder
        g, edges, sampler, batch_size=args.batch_size, inputs=["feat"],
        negative_sampler=negatives, exclude="ends",
    )  # fmt: skip

    model = DistributedDataParallel(SAGE(g.ndata["feat"].shape[1], 32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    rank = torch.distributed.get_rank()
    for epoch in range(args.epochs):
        started, total = time.time(), 0.0
        with model.join():
            for input_nodes, pair_graph, negative_graph, blocks in loader:
                # stock: x = g.ndata["feat"][input_nodes]
                x = blocks[0].srcdata["feat"]  # rudder
                if args.check:
                    assert torch.equal(g.ndata["feat"][input_nodes], x)
                h = model(blocks, x)
                positive, negative = score(pair_graph, h), score(negative_graph, h)
                scores = torch.cat([positive, negative])
                labels = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
                loss = F.binary_cross_entropy_with_logits(scores, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
        seconds = time.time() - started
        print(f"rank {rank} epoch {epoch}: {seconds:.2f} s, loss {total / len(loader):.3f}")


if __name__ == "__main__":
    main()
