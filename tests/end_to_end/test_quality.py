"""The quality that a job's trainers find together is that of one machine with the whole graph."""

from __future__ import annotations

import json
from pathlib import Path

import dgl
import pytest
import torch
from torch import Tensor

from rudder.training.manifest import Manifest
from rudder.training.model.models import ModelOptions, build_model
from tests.end_to_end.jobs import SCRIPTS, run_script

pytestmark = pytest.mark.distributed


def whole_graph(data: Path) -> tuple[dgl.DGLGraph, dict[str, Tensor]]:
    """The partitions put together again: a block of all edges, and the node tensors."""
    manifest = Manifest.read(data)
    edges, rows = [], []
    for part in range(manifest.num_parts):
        local, tensors, *_ = dgl.distributed.load_partition(str(manifest.part_config(data)), part)
        src, dst = local.edges()
        owned = local.ndata["inner_node"][dst].bool()
        ids = local.ndata[dgl.NID]
        edges.append((ids[src[owned]], ids[dst[owned]]))
        rows.append({name.removeprefix("_N/"): value for name, value in tensors.items()})
    block = dgl.create_block(
        (torch.cat([src for src, _ in edges]), torch.cat([dst for _, dst in edges])),
        num_src_nodes=manifest.num_nodes,
        num_dst_nodes=manifest.num_nodes,
    )
    return block, {name: torch.cat([part[name] for part in rows]) for name in rows[0]}


OWN = """
import dgl.nn
import torch

class Net(torch.nn.Module):
    def __init__(self, in_dim, num_classes, options):
        super().__init__()
        self.first = dgl.nn.GATConv(in_dim, options.hidden, 1)
        self.last = dgl.nn.GATConv(options.hidden, num_classes, 1)

    def forward(self, blocks, x):
        for index, block in enumerate(blocks):
            x = self.run(index, block, x)
        return x

    def run(self, index, block, x):
        return (self.last if index else self.first)(block, x).flatten(1).tanh()

def make(*arguments):
    return Net(*arguments)
"""


def accuracies(kind: str, block: dgl.DGLGraph, rows: dict[str, Tensor]) -> list[float]:
    """Of an untrained model, over the test and the validation nodes."""
    classes = int(rows["label"].max()) + 1
    torch.manual_seed(0)
    options = ModelOptions(hidden=16, num_layers=2, heads=2)
    in_dim = rows["feat"].shape[1]
    model = build_model(kind, in_dim=in_dim, num_classes=classes, options=options).eval()
    with torch.no_grad():
        right = model([block, block], rows["feat"]).argmax(1) == rows["label"]
    masks = (rows[name].bool() for name in ("test_mask", "val_mask"))
    return [right[mask].float().mean().item() for mask in masks]


def test_two_hosts_find_what_one_machine_finds(tiny_parts: Path, tmp_path: Path) -> None:
    """Of models of ours, and of one's own in whole and layer by layer."""
    (tmp_path / "whole.py").write_text(OWN)
    (tmp_path / "by_layer.py").write_text(OWN.replace("run", "forward_layer"))
    kinds = ["sage", "gat", *(f"{tmp_path}/{name}.py:make" for name in ("whole", "by_layer"))]
    block, rows = whole_graph(tiny_parts)
    wanted = {kind: accuracies(kind, block, rows) for kind in kinds}
    outputs = run_script(
        SCRIPTS / "quality.py", "--classes", str(int(rows["label"].max()) + 1),
        *(f"--model={kind}" for kind in kinds), data=tiny_parts, scratch=tmp_path,
    )  # fmt: skip
    for output in outputs:
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        assert [line["model"] for line in lines] == kinds, output
        for line in lines:
            # Rounding may decide a tie of two classes the other way.
            for found in line["found"]:
                assert found == pytest.approx(wanted[line["model"]], abs=1e-3)
            assert line["in_training_mode"]
