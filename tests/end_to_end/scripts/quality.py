"""Evaluates an untrained model on a real job; every trainer prints one line of JSON."""

import argparse
import json
import os
import traceback

import dgl
import torch

from rudder.training.model.inference import evaluate
from rudder.training.model.models import make_model


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config", "--model", "--classes"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    torch.manual_seed(0)
    model = make_model(
        args.model, in_dim=g.ndata["feat"].shape[1], hidden=16, num_classes=int(args.classes),
        num_layers=2, heads=2, dropout=0.5,
    )  # fmt: skip
    model.train()
    found = evaluate(
        g, model, device=torch.device("cpu"), multilabel=False, num_classes=int(args.classes),
        batch_rows=1000,
    )  # fmt: skip
    print(json.dumps({"found": found, "in_training_mode": model.training}))
    torch.distributed.barrier()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # DGL's goodbye would wait for the other trainers
