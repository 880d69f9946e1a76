"""Evaluates untrained models on a real job; every trainer prints a line of JSON for each."""

import argparse
import json
import os
import traceback

import dgl
import torch

from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.task import NodeClassification


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--graph-name", "--part-config", "--ip-config", "--classes"):
        parser.add_argument(name, required=True)
    parser.add_argument("--model", action="append", required=True)
    args = parser.parse_args()
    dgl.distributed.initialize(args.ip_config)
    torch.distributed.init_process_group("gloo")
    g = dgl.distributed.DistGraph(args.graph_name, part_config=args.part_config)
    task = NodeClassification(int(args.classes))
    options = ModelOptions(hidden=16, num_layers=2, heads=2)
    in_dim = g.ndata["feat"].shape[1]
    for kind in args.model:
        torch.manual_seed(0)
        model = build_model(kind, in_dim=in_dim, num_classes=task.num_outputs, options=options)
        model.train()
        scores = task.evaluate(g, model, device=torch.device("cpu"))
        found = [[score.test, score.val] for score in scores]
        print(json.dumps({"model": kind, "found": found, "in_training_mode": model.training}))
    torch.distributed.barrier()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
        os._exit(1)  # DGL's goodbye would wait for the other trainers
