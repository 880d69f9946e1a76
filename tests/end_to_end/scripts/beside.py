"""A stock script's ways to use DistDGL beside the loader, and to leave it. Prints JSON lines.

Runs as server and as trainer of a real job (see jobs.py); ends without a `close`.
"""

import argparse
import contextlib
import faulthandler
import gc
import json
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dgl
import torch

from rudder.training.errors import ConfigError
from rudder.training.loader import BufferOptions, NodeLoader, RunOptions, SteeringOptions

HANGS_AFTER_S = 280


def ones(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


class Script:
    """Counts what is wrong."""

    def __init__(self, g: Any, folder: str) -> None:
        self.g, self.folder = g, folder
        self.feat = g.ndata["feat"][torch.arange(g.num_nodes())]
        self.nodes = dgl.distributed.node_split(g.ndata["train_mask"], g.get_partition_book())[:256]
        self.sampler = dgl.dataloading.NeighborSampler([5, 10])
        self.wrong: dict[str, int] = {}

    def loader(self, **options: Any) -> NodeLoader:
        return NodeLoader(self.g, self.nodes, self.sampler, batch_size=32, inputs=["feat"],
                          outputs=["label"], **options)  # fmt: skip

    def note(self, what: str, *, is_right: bool) -> None:
        self.wrong[what] = self.wrong.get(what, 0) + (not is_right)

    def check(self, what: str, minibatch: Any) -> None:
        nodes, _, blocks = minibatch
        self.note(what, is_right=torch.equal(blocks[0].srcdata["feat"], self.feat[nodes]))

    def read(self, what: str) -> None:
        ids = torch.randint(0, self.g.num_nodes(), (200,))
        self.note(what, is_right=torch.equal(self.g.ndata["feat"][ids], self.feat[ids]))

    def reads_in_the_loop(self) -> None:
        loader = self.loader(epochs=3, buffer=0.0)
        for _ in range(3):
            for minibatch in loader:
                self.check("batches while the script reads", minibatch)
                self.read("reads in the loop")
            self.read("reads between epochs")

    def embedding(self) -> None:
        """Two embeddings learn alike, one beside a loader of ours and one without."""
        trained = []
        batches = [batch[0] for batch in self.loader(shuffle=False, seed=1)]
        for name, loader in (("beside", self.loader(epochs=1)), ("alone", None)):
            made = dgl.distributed.DistEmbedding(self.g.num_nodes(), 4, name, init_func=ones)
            optimizer = dgl.distributed.optim.SparseAdam([made], lr=0.01)
            ours = iter(loader) if loader else None
            for nodes in batches:
                if ours is not None:
                    self.check("batches while an embedding is trained", next(ours))
                made(nodes).pow(2).sum().backward()
                optimizer.step()
            self.g.barrier()
            trained.append(made.weight[torch.arange(self.g.num_nodes())])
            self.g.barrier()
        self.note("embeddings", is_right=torch.allclose(*trained) and trained[0].min() < 1)

    def other_loaders(self, **options: Any) -> None:
        train = self.loader(**options)
        other = self.loader(shuffle=False, **options)
        stock = dgl.dataloading.DistNodeDataLoader(
            self.g, self.nodes, self.sampler, batch_size=64, shuffle=False
        )
        for number, minibatch in enumerate(train):
            self.check("batches beside other loaders", minibatch)
            if number == 1:
                seeds = [batch[1] for batch in self.validated(other)]
                self.note("seeds of validation", is_right=torch.equal(torch.cat(seeds), self.nodes))
            if number == 5:
                found = [(nodes, seeds, self.g.ndata["feat"][nodes]) for nodes, seeds, _ in stock]
                seeds = [each[1] for each in found]
                self.note("seeds of DGL's", is_right=torch.equal(torch.cat(seeds), self.nodes))
                for nodes, _, rows in found:
                    self.note("rows of DGL's", is_right=torch.equal(rows, self.feat[nodes]))

    def validated(self, loader: NodeLoader) -> list[Any]:
        batches = list(loader)
        for minibatch in batches:
            self.check("batches of validation", minibatch)
        return batches

    def rows_that_change(self) -> None:
        """Rows of this host and of the other are written between epochs, paused or not."""
        self.g.ndata["turn"] = dgl.distributed.DistTensor(
            (self.g.num_nodes(), 1), torch.int32, "turn"
        )
        turn = 0
        variants: tuple[dict[str, Any], ...] = (
            {}, {"epochs": 3}, {"mutable": ["turn"]},
            {"buffer": BufferOptions(size=0.5, policy="score")},
            {"buffer": BufferOptions(policy="none")},
        )  # fmt: skip
        for options in variants:
            loader = NodeLoader(self.g, self.nodes, self.sampler, batch_size=32, inputs=["turn"],
                                outputs=["turn"], **{"buffer": 0.5, **options})  # fmt: skip
            for epoch in range(3):
                for step, (_, _, blocks) in enumerate(loader):
                    rows = (blocks[0].srcdata["turn"], blocks[-1].dstdata["turn"])
                    is_right = all(bool((each == turn).all()) for each in rows)
                    self.note(f"rows that change {options}", is_right=is_right)
                    if step == 3 and "mutable" in options:
                        turn += 1
                        self.write(turn, everywhere=False)
                turn += 1
                with loader.paused() if epoch else contextlib.nullcontext():
                    self.write(turn, everywhere="mutable" not in options)
        for _ in self.loader():
            try:
                self.g.ndata["feat"][self.nodes[:1]] = self.feat[self.nodes[:1]]
                self.note("writes in an epoch", is_right=False)
            except ConfigError:
                self.note("writes in an epoch", is_right=True)

    def write(self, turn: int, *, everywhere: bool) -> None:
        """Every second row of all hosts, or the own rows."""
        book, rank = self.g.get_partition_book(), torch.distributed.get_rank()
        mine = torch.arange(self.g.num_nodes())[rank::2] if everywhere else book.partid2nids(rank)
        rows = torch.full((len(mine), 1), turn, dtype=torch.int32)
        self.g.barrier()
        self.g.ndata["turn"][mine] = rows
        # DGL waits for no rows that it sends to another host, and neither does its barrier.
        while everywhere and not torch.equal(self.g.ndata["turn"][mine], rows):
            time.sleep(0.01)
        self.g.barrier()

    def left(self) -> None:
        """Loaders left in every way; none keeps a thread."""
        kept = []
        for number in range(6):
            loader = self.loader(epochs=100)
            kept.append(weakref.ref(loader))
            try:
                for step, minibatch in enumerate(loader):
                    self.check("batches of loaders that are left", minibatch)
                    if number % 3 == 1 and step == 3:
                        break
                    if number % 3 == 2 and step == 3:
                        raise MemoryError
            except MemoryError:
                pass
            self.read("reads after a loop was left")
        del loader, minibatch
        gc.collect()
        for thread in threading.enumerate():
            if thread.name == "rudder-loader":
                thread.join(10)
        self.note("loaders kept", is_right=not any(each() for each in kept))
        names = [thread.name for thread in threading.enumerate()]
        self.note("threads kept", is_right="rudder-loader" not in names)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config", "--scratch"):
        parser.add_argument(name, required=True)
    parser.add_argument("--leave", type=int, default=0)
    args = parser.parse_args()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    script = Script(g, args.scratch)
    began = time.monotonic()
    steps: tuple[Callable[[], None], ...] = (
        script.reads_in_the_loop,
        script.embedding,
        script.rows_that_change,
        script.other_loaders,
        lambda: script.other_loaders(epochs=2),
        lambda: script.other_loaders(
            steering=SteeringOptions(memory=None), run=RunOptions(folder=Path(args.scratch))
        ),
        script.left,
    )
    for step in steps:
        step()
        gc.collect()
        print(f"after {time.monotonic() - began:.1f} s", flush=True)
    print(json.dumps(script.wrong), flush=True)
    torch.distributed.barrier()
    for _ in script.loader(epochs=100):
        sys.exit(args.leave)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # DGL's goodbye would wait for the other trainers
