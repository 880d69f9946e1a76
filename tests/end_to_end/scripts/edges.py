"""EdgeLoader beside DistEdgeDataLoader: the same batches, in every mode. Prints JSON lines.

All in-edges are drawn, so that both loaders draw the same ones.
"""

import argparse
import faulthandler
import gc
import json
import os
import threading
import time
import traceback
import uuid
from pathlib import Path
from random import Random
from typing import Any

import dgl
import torch

from rudder.training.control.messages import send_command
from rudder.training.loader import (
    BufferOptions,
    EdgeLoader,
    EdgeSplit,
    InBatchNegatives,
    RunOptions,
)
from rudder.training.metrics import RowCounts
from rudder.training.settings import Change, Command
from rudder.training.wire.services import register_services, rows_sent_by_servers

HANGS_AFTER_S = 280


def farther(graph: Any, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative edges that do not depend on chance: two of each source."""
    sources, destinations = graph.find_edges(edges)
    away = torch.stack([destinations + 7, destinations * 3]).T.reshape(-1)
    return sources.repeat_interleave(2), away % graph.num_nodes()


class Script:
    """Counts what is wrong."""

    def __init__(self, g: Any, scratch: Path) -> None:
        self.g, self.scratch, self.wrong = g, scratch, dict[str, int]()
        chosen = torch.zeros(g.num_edges(), dtype=torch.bool)
        chosen[torch.arange(0, g.num_edges(), 97)] = True
        book = g.get_partition_book()
        mine = dgl.distributed.edge_split(chosen, book)[:150]
        everyone = [torch.empty(0)] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, mine)
        # Every fifth edge is given to another trainer, so that edges' ends and rows travel, too.
        rank = torch.distributed.get_rank()
        self.edges = torch.cat([mine[torch.arange(len(mine)) % 5 > 0], everyone[rank - 1][::5]])
        self.feat = g.ndata["feat"][torch.arange(g.num_nodes())]
        g.edata["weight"] = dgl.distributed.DistTensor(
            (g.num_edges(), 2),
            torch.float32,
            "weight",
            part_policy=g.get_edge_partition_policy("_E"),
        )
        if rank == 0:
            ids = torch.arange(g.num_edges())
            weight = torch.stack([ids, -ids], dim=1).float()
            g.edata["weight"][ids] = weight
            # DGL pushes rows to any server of a host and waits for none, nor does its barrier.
            while not torch.equal(g.edata["weight"][ids], weight):
                time.sleep(0.01)
        g.barrier()
        self.weight = g.edata["weight"][torch.arange(g.num_edges())]
        self.reverse = (torch.arange(g.num_edges()) * 31 + 5) % g.num_edges()

    def note(self, what: str, *, is_right: bool) -> None:
        self.wrong[what] = self.wrong.get(what, 0) + (not is_right)

    def loader(self, sampler: Any = None, **options: Any) -> EdgeLoader:
        sampler = sampler or dgl.dataloading.NeighborSampler([-1, -1])
        return EdgeLoader(self.g, self.edges, sampler, **{
            "batch_size": 32, "inputs": ["feat"], "outputs": ["weight"], "edge_inputs": ["weight"],
            **options,
        })  # fmt: skip

    def same_as_stock(self) -> None:
        """In every mode, and from torch's generator."""
        sampler = dgl.dataloading.NeighborSampler([-1, -1])
        for negatives in (None, farther):
            for shuffle in (True, False):
                torch.manual_seed(7)
                stock = list(dgl.dataloading.DistEdgeDataLoader(
                    self.g, self.edges, sampler, batch_size=32, shuffle=shuffle,
                    negative_sampler=negatives, drop_last=False,
                ))  # fmt: skip
                torch.manual_seed(7)
                both = dgl.dataloading.as_edge_prediction_sampler(
                    sampler, negative_sampler=negatives
                )
                ours = list(self.loader(both, shuffle=shuffle))
                name = f"batches, {negatives and 'negatives'}, {shuffle}"
                self.note(name, is_right=len(ours) == len(stock) == -(-len(self.edges) // 32))
                for a, b in zip(ours, stock, strict=True):
                    self.compare(name, a, b)

    def compare(self, name: str, ours: Any, stock: Any) -> None:
        self.note(f"{name}: fields", is_right=len(ours) == len(stock))
        for a, b in zip(ours[1:-1], stock[1:-1], strict=True):
            self.note(f"{name}: pairs", is_right=same_graphs(a, b))
        self.rows(name, ours)
        for a, b in zip(ours[-1], stock[-1], strict=True):
            count = a.num_dst_nodes()
            seeds = torch.equal(a.dstdata[dgl.NID], b.dstdata[dgl.NID])
            self.note(f"{name}: seeds", is_right=seeds or a is not ours[-1][-1])
            self.note(f"{name}: blocks", is_right=edges_of(a) == edges_of(b))
            order = torch.equal(a.srcdata[dgl.NID][:count], a.dstdata[dgl.NID])
            self.note(f"{name}: order", is_right=order)

    def rows(self, name: str, batch: Any) -> None:
        """Rows are those of the DistTensors, bit for bit."""
        nodes, pairs, blocks = batch[0], batch[1], batch[-1]
        self.note(name, is_right=torch.equal(blocks[0].srcdata["feat"], self.feat[nodes]))
        for graph in (pairs, *blocks):
            found = torch.equal(graph.edata["weight"], self.weight[graph.edata[dgl.EID]])
            self.note(f"{name}: edge rows", is_right=found)

    def exclusion(self) -> None:
        """What is excluded is dropped, and nothing else."""
        batches = list(self.loader(shuffle=False))
        split = EdgeSplit(val=0.2, test=0.2)
        sources, destinations = self.g.find_edges(torch.arange(self.g.num_edges()))
        in_train = torch.from_numpy(split.is_in("train", sources.numpy(), destinations.numpy()))
        for exclude, options in (
            ("self", {}),
            ("reverse_id", {"reverse_eids": self.reverse}),
            ("ends", {}),
            (torch.arange(0, self.g.num_edges(), 3), {}),
            (lambda edges: self.reverse[edges], {}),
            (None, {"held_out": split}),
        ):
            name = f"exclude {exclude if isinstance(exclude, str) else type(exclude).__name__}"
            found = list(self.loader(shuffle=False, exclude=exclude, **options))
            for ours, whole in zip(found, batches, strict=True):
                edges = ours[1].edata[dgl.EID]
                dropped = torch.zeros(self.g.num_edges(), dtype=torch.bool)
                if exclude == "ends" and isinstance(exclude, str):
                    ends = (each[edges].tolist() for each in (sources, destinations))
                    keys = set(zip(*ends, strict=True))
                    keys |= {(b, a) for a, b in keys}
                    pairs = zip(sources.tolist(), destinations.tolist(), strict=True)
                    dropped = torch.tensor([pair in keys for pair in pairs])
                elif exclude is None:
                    dropped = ~in_train
                elif isinstance(exclude, torch.Tensor):
                    dropped[exclude] = True
                elif callable(exclude):
                    dropped[self.reverse[edges]] = True
                else:
                    dropped[edges] = True
                    dropped[self.reverse[edges]] |= exclude == "reverse_id"
                self.rows(name, ours)
                last, full = ours[-1][-1], whole[-1][-1]
                kept = [e for e in edges_of(full) if not dropped[e[2]]]
                self.note(name, is_right=edges_of(last) == kept)
                self.note(
                    f"{name} dropped", is_right=len(kept) < full.num_edges() or callable(exclude)
                )
                first = ours[-1][0].edata[dgl.EID]
                self.note(name, is_right=not bool(dropped[first].any()))

    def life(self) -> None:
        """What NodeLoader promises holds: epochs, early stops, rows that change, close, beside."""
        options: dict[str, Any] = {
            "negative_sampler": InBatchNegatives(2), "exclude": "ends",
            "buffer": BufferOptions(size=0.2, lookahead=3),
        }  # fmt: skip
        sampler = dgl.dataloading.NeighborSampler([3, 5])
        found = []
        for _ in range(2):
            loader = self.loader(sampler, epochs=3, seed=5, **options)
            beside = self.loader(sampler, **options)
            seen = []
            for _ in range(3):
                for step, batch in enumerate(loader):
                    negatives: Any = batch[2]
                    self.rows("epochs", batch)
                    seen.append((batch[0], batch[1].edata[dgl.EID], negatives.edges()[1]))
                    if step == 1:
                        for other in beside:
                            self.rows("beside", other)
                    edges = torch.arange(step, 200)
                    same = torch.equal(self.g.edata["weight"][edges], self.weight[edges])
                    self.note("reads in the loop", is_right=same)
            loader.close()
            beside.close()
            found.append(seen)
        pairs = zip(*found, strict=True)
        same = all(torch.equal(x, y) for a, b in pairs for x, y in zip(a, b, strict=True))
        self.note("equal seeds", is_right=same)
        self.steered(sampler, options, found[0])
        self.changes(sampler, options)
        for _ in self.loader(sampler, epochs=100, **options):
            break
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "rudder-loader":
                thread.join(10)
        names = [thread.name for thread in threading.enumerate()]
        self.note("threads kept", is_right="rudder-loader" not in names)

    def steered(self, sampler: Any, options: dict[str, Any], whole: list[Any]) -> None:
        """The capacity changes all the time; a second loader goes on where the first one stood."""
        socket = self.scratch / f"rank{torch.distributed.get_rank()}.sock"
        random, state, again, hits = Random(1), None, list[Any](), 0
        for stop in (len(whole) // 2, len(whole)):
            self.g.barrier()
            sent, counts = rows_sent_by_servers(), [RowCounts(), RowCounts()]
            self.g.barrier()
            run = RunOptions(control=socket, resume_from=state)
            loader = self.loader(sampler, epochs=3, seed=5, run=run, **options)
            while len(again) < stop:
                for batch in loader.batches():
                    assert batch.pair_graph is not None
                    assert batch.negative_graph is not None
                    self.rows("steered", (batch.input_nodes, batch.pair_graph, batch.blocks))
                    edges = batch.negative_graph.edges()
                    again.append((batch.input_nodes, batch.pair_graph.edata[dgl.EID], edges[1]))
                    counts[0] += batch.accounts.rows
                    counts[1] += batch.accounts.edge_rows
                    change = Change(capacity_rows=random.choice([0, 40, 2000]))
                    send_command(socket, Command(command_id=uuid.uuid4().hex, change=change), 30)
                    if len(again) == stop:
                        state = loader.state()
                        break
            loader.close()
            for rows in counts:
                adds_up = rows.hits + rows.rows_fetched.miss == rows.remote_rows
                self.note("counts", is_right=adds_up)
            hits += counts[1].hits
        self.g.barrier()
        fetched = torch.tensor([rows.rows_fetched.total for rows in counts])
        torch.distributed.all_reduce(fetched)
        self.note("hits of edges", is_right=hits > 0)
        self.note("rows sent", is_right=rows_sent_by_servers() - sent == int(fetched.sum()))
        pairs = zip(again, whole, strict=True)
        same = all(torch.equal(x, y) for a, b in pairs for x, y in zip(a, b, strict=True))
        self.note("resumed", is_right=same)

    def changes(self, sampler: Any, options: dict[str, Any]) -> None:
        """Rows of nodes and edges that are written between epochs are new in the next one."""
        shape, policy = (self.g.num_edges(), 1), self.g.get_edge_partition_policy("_E")
        self.g.edata["turn"] = dgl.distributed.DistTensor(
            shape, torch.int32, "turn_of_edges", part_policy=policy
        )
        shape = (self.g.num_nodes(), 1)
        self.g.ndata["turn"] = dgl.distributed.DistTensor(shape, torch.int32, "turn")
        turns, given = ["turn"], {"inputs": ["turn"], "edge_inputs": ["turn"], "outputs": ["turn"]}
        for mutable in ((), turns):
            loader = self.loader(sampler, mutable=mutable, **given, **options)
            for turn in range(3):
                with loader.paused():
                    self.write(turn)
                for batch in loader:
                    found = [graph.edata["turn"] for graph in (batch[1], *batch[-1])]
                    found.append(batch[-1][0].srcdata["turn"])
                    right = all(bool((rows == turn).all()) for rows in found)
                    self.note(f"rows that change {mutable}", is_right=right)
            loader.close()

    def write(self, turn: int) -> None:
        book = self.g.get_partition_book()
        self.g.barrier()
        for data, mine in (
            (self.g.ndata, book.partid2nids(book.partid)),
            (self.g.edata, book.partid2eids(book.partid)),
        ):
            data["turn"][mine] = torch.full((len(mine), 1), turn, dtype=torch.int32)
        self.g.barrier()


def edges_of(block: Any) -> list[tuple[int, int, int]]:
    """Sources, destinations and ids of a block's edges, in one order."""
    source, destination = block.edges()
    ids = (block.srcdata[dgl.NID][source], block.dstdata[dgl.NID][destination])
    return sorted(zip(*(each.tolist() for each in (*ids, block.edata[dgl.EID])), strict=True))


def same_graphs(ours: Any, stock: Any) -> bool:
    """Whether two pair graphs are the same bit for bit, but for the rows that ours has."""
    same_edges = all(torch.equal(a, b) for a, b in zip(ours.edges(), stock.edges(), strict=True))
    same_nodes = torch.equal(ours.ndata[dgl.NID], stock.ndata[dgl.NID])
    ids = dgl.EID in ours.edata, dgl.EID in stock.edata
    same_ids = ids[0] == ids[1] and (
        not ids[0] or torch.equal(ours.edata[dgl.EID], stock.edata[dgl.EID])
    )
    return same_edges and same_nodes and same_ids and ours.num_nodes() == stock.num_nodes()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config"):
        parser.add_argument(name, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--wire", choices=["lean", "stock"], default="lean")
    args = parser.parse_args()
    if args.wire == "lean":
        register_services()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    script = Script(g, args.scratch)
    script.same_as_stock()
    script.exclusion()
    if args.wire == "lean":
        script.life()
    print(json.dumps(script.wrong), flush=True)
    torch.distributed.barrier()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # DGL's goodbye would wait for the other trainers
