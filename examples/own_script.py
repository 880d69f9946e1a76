"""A DistDGL training script of one's own, with Rudder's loader in place of DGL's.

It is DGL's own GraphSAGE example, shortened. The lines that differ from the stock version are
marked with `# rudder`; what they replace stands beside them, marked with `# stock`. Start it
with any launcher that sets DistDGL's variables, such as DGL's `tools/launch.py`, in every server
and trainer:

    python own_script.py --graph-name NAME --part-config PARTS/NAME.json --ip-config ip_config.txt

With `--steer` each trainer gets a controller process; what the agents see and decide is in
rudder-runs/<time>.
"""

import argparse
import itertools
import time

import dgl
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rudder.training.loader import NodeLoader  # rudder


class SAGE(nn.Module):
    def __init__(self, in_dim: int, hidden: int, num_classes: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden] * (num_layers - 1), num_classes]
        self.layers = nn.ModuleList(
            dgl.nn.SAGEConv(a, b, "mean") for a, b in itertools.pairwise(widths)
        )

    def forward(self, blocks: list[dgl.DGLGraph], x: torch.Tensor) -> torch.Tensor:
        for i, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            x = layer(block, x)
            if i < len(self.layers) - 1:
                x = F.relu(x)
        return x


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph-name", required=True)
    parser.add_argument("--part-config", required=True)
    parser.add_argument("--ip-config", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steer", action="store_true", help="let agents change the buffer")
    parser.add_argument("--check", action="store_true", help="compare with reads of DistTensors")
    args = parser.parse_args()

    steering = None
    if args.steer:
        from rudder.training.loader import SteeringOptions

        steering = SteeringOptions()

    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    train_nid = dgl.distributed.node_split(g.ndata["train_mask"], g.get_partition_book())
    sampler = dgl.dataloading.NeighborSampler([5, 10])
    # stock: loader = dgl.dataloading.DistNodeDataLoader(g, train_nid, sampler,
    # stock:     batch_size=args.batch_size, shuffle=True)
    loader = NodeLoader(  # rudder
        g, train_nid, sampler, batch_size=args.batch_size, inputs=["feat"], outputs=["label"],
        steering=steering,  # only where agents are to steer
    )  # fmt: skip

    num_classes = int(g.ndata["label"][torch.arange(g.num_nodes())].max()) + 1
    model = DistributedDataParallel(SAGE(g.ndata["feat"].shape[1], 32, num_classes, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for epoch in range(args.epochs):
        started, total = time.time(), 0.0
        with model.join():
            for input_nodes, seeds, blocks in loader:
                # stock: x, y = g.ndata["feat"][input_nodes], g.ndata["label"][seeds]
                x, y = blocks[0].srcdata["feat"], blocks[-1].dstdata["label"]  # rudder
                loss = F.cross_entropy(model(blocks, x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
        seconds = time.time() - started
        rank = torch.distributed.get_rank()
        print(f"rank {rank} epoch {epoch}: {seconds:.2f} s, loss {total / len(loader):.3f}")
    if args.check:
        batches = [(n, s, b[0].srcdata["feat"], b[-1].dstdata["label"]) for n, s, b in loader]
        same = all(
            torch.equal(g.ndata["feat"][n], x) and torch.equal(g.ndata["label"][s], y)
            for n, s, x, y in batches
        )
        print(f"rank {torch.distributed.get_rank()} identical to DistTensor reads: {same}")
    loader.close()  # only where agents steer: they finish their record


if __name__ == "__main__":
    main()
