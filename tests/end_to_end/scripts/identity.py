"""Every batch of the loader against reads of DistTensors, while settings change at random.

Runs as server and as trainer of a real job (see jobs.py). Prints one line of JSON per trainer.
"""

import argparse
import hashlib
import json
import os
import random
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import torch

from rudder.training.control.messages import send_command
from rudder.training.loader import BufferOptions, NodeLoader, RunOptions
from rudder.training.settings import Change, Command, FetchTargets
from rudder.training.wire.services import register_services, rows_sent_by_servers

EDGES_EVERY = 5
"""Batches of which one has its edges looked up, which takes DistDGL long."""


def random_change(rng: random.Random, loader: NodeLoader) -> Change:
    remote = loader.view.to_global(np.arange(loader.view.num_remote))
    ids = tuple(int(i) for i in rng.choices(remote.tolist(), k=20))
    other = 1 - loader.view.part
    return rng.choice(
        [
            Change(capacity_rows=rng.choice([0, 1, 7, 300, 2000, loader.view.num_remote])),
            Change(lookahead_batches=rng.choice([0, 1, 3, 9, 40])),
            Change(eviction_threshold=rng.random()),
            Change(replace_now=True),
            Change(fetch_targets=FetchTargets(source="observed", row_budget=200)),
            Change(fetch_targets=FetchTargets(source="degree", row_budget=500)),
            Change(fetch_targets=FetchTargets(source="owner", row_budget=50, owner=other)),
            Change(fetch_targets=FetchTargets(source="ids", row_budget=50, ids=ids)),
        ]
    )


def keep_changing(
    loader: NodeLoader, socket: Path, stop: threading.Event, reasons: list[str | None]
) -> None:
    rng = random.Random(int(socket.stem[4:]))
    while not stop.is_set():
        command = Command(command_id=uuid.uuid4().hex, change=random_change(rng, loader))
        reasons.append(send_command(socket, command, 30).reason)
        time.sleep(rng.random() * 0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config", "--scratch", "--wire"):
        parser.add_argument(name, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--policy", default="lookahead")
    parser.add_argument("--sampler", default="uniform")
    parser.add_argument("--max-seeds", type=int)
    args = parser.parse_args()
    if args.wire == "lean":
        register_services()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(5)
    rank = torch.distributed.get_rank()
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    g.ndata["year"] = dgl.distributed.DistTensor((g.num_nodes(), 3), torch.int16, "year")
    g.ndata["year"][torch.arange(g.num_nodes())] = (
        torch.arange(3 * g.num_nodes()).reshape(-1, 3).to(torch.int16)
    )
    g.barrier()
    # Every fifth training seed is given to the other host, so that seeds' rows travel, too.
    mine = dgl.distributed.node_split(g.ndata["train_mask"], g.get_partition_book())
    everyone = [torch.empty(0)] * 2
    torch.distributed.all_gather_object(everyone, mine)
    seeds = torch.cat([mine[torch.arange(len(mine)) % 5 > 0], everyone[1 - rank][::5]])
    seeds = seeds[torch.randperm(len(seeds))][: args.max_seeds]
    fanouts = [5, 10]
    sampler = dgl.dataloading.NeighborSampler(fanouts, replace=args.sampler == "replace")
    socket = Path(args.scratch) / f"rank{rank}.sock"
    loader = NodeLoader(
        g, seeds, sampler, batch_size=64, inputs=["feat", "year"], outputs=["label"],
        epochs=args.epochs, buffer=BufferOptions(size=0.1, lookahead=5, policy=args.policy),
        run=RunOptions(control=socket),
    )  # fmt: skip
    stop = threading.Event()
    reasons: list[str | None] = []
    changer = threading.Thread(target=keep_changing, args=(loader, socket, stop, reasons))
    if args.policy == "lookahead":
        changer.start()
    result = check(g, loader, args.epochs, seeds)
    stop.set()
    if args.policy == "lookahead":
        changer.join()
    loader.close()
    g.barrier()  # the servers' count is final only when nobody fetches any more
    sent = rows_sent_by_servers() if args.wire == "lean" else None
    g.barrier()
    fetched = [0, 0]
    torch.distributed.all_gather_object(fetched, result["rows_on_the_wire"])
    result |= {"outcomes": len(reasons), "reasons": sorted(set(filter(None, reasons)))}
    print(json.dumps(result | {"sent": sent, "fetched_by_all": sum(fetched)}))
    torch.distributed.barrier()


def check(g: Any, loader: NodeLoader, epochs: int, seeds: torch.Tensor) -> dict[str, Any]:
    result: dict[str, Any] = dict.fromkeys(("batches", "remote", "hits", "rows_on_the_wire"), 0)
    result |= {"wrong": [], "seen_all_seeds": True}
    digest = hashlib.blake2b()
    for _ in range(epochs):
        kept, seen = [], []
        for batch in loader.batches():
            rows = batch.accounts.rows
            assert rows.hits + rows.rows_fetched.miss == rows.remote_rows
            assert 0 <= rows.halo_hits <= rows.halo_rows <= rows.remote_rows <= rows.input_rows
            result["remote"] += rows.remote_rows
            result["hits"] += rows.hits
            fetched = rows.rows_fetched
            result["rows_on_the_wire"] += 2 * (fetched.miss + fetched.target) + fetched.seed
            kept.append((batch.input_nodes, batch.seeds, batch.blocks))
            seen.append(batch.seeds)
            for tensor in (batch.input_nodes, *(block.edata[dgl.EID] for block in batch.blocks)):
                digest.update(tensor.numpy().tobytes())
        result["seen_all_seeds"] &= torch.equal(torch.cat(seen).sort().values, seeds.sort().values)
        with loader.paused():
            for number, minibatch in enumerate(kept):
                result["batches"] += 1
                result["wrong"] += problems(g, *minibatch)
                if number % EDGES_EVERY == 0:
                    result["wrong"] += [] if edges_exist(g, minibatch[2]) else ["edges"]
    return result | {"digest": digest.hexdigest()}


def problems(
    g: Any, input_nodes: torch.Tensor, seeds: torch.Tensor, blocks: list[dgl.DGLGraph]
) -> list[str]:
    checks = {
        "feat": torch.equal(blocks[0].srcdata["feat"], g.ndata["feat"][input_nodes]),
        "year": torch.equal(blocks[0].srcdata["year"], g.ndata["year"][input_nodes]),
        "label": torch.equal(blocks[-1].dstdata["label"], g.ndata["label"][seeds]),
        "nid": torch.equal(blocks[0].srcdata[dgl.NID], input_nodes),
        "seeds": torch.equal(blocks[-1].dstdata[dgl.NID], seeds),
        "chain": torch.equal(blocks[0].dstdata[dgl.NID], blocks[1].srcdata[dgl.NID]),
        "fanout": int(blocks[-1].in_degrees().max()) <= 10,
    }
    return [name for name, is_right in checks.items() if not is_right]


def edges_exist(g: Any, blocks: list[dgl.DGLGraph]) -> bool:
    for block in blocks:
        src, dst = block.edges()
        found_src, found_dst = g.find_edges(block.edata[dgl.EID])
        is_right = torch.equal(found_src, block.srcdata[dgl.NID][src])
        if not (is_right and torch.equal(found_dst, block.dstdata[dgl.NID][dst])):
            return False
    return True


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # DGL's goodbye would wait for the other trainers
