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


@pytest.mark.parametrize("kind", ["sage", "gat", "own in whole", "own by layer"])
def test_two_hosts_find_what_one_machine_finds(kind: str, tiny_parts: Path, tmp_path: Path) -> None:
    if kind.startswith("own"):
        by_layer = kind == "own by layer"
        text = OWN.replace("run", "forward_layer") if by_layer else OWN
        (tmp_path / "own.py").write_text(text)
        kind = f"{tmp_path}/own.py:make"
    block, rows = whole_graph(tiny_parts)
    classes = int(rows["label"].max()) + 1
    torch.manual_seed(0)
    options = ModelOptions(hidden=16, num_layers=2, heads=2)
    in_dim = rows["feat"].shape[1]
    model = build_model(kind, in_dim=in_dim, num_classes=classes, options=options).eval()
    with torch.no_grad():
        right = model([block, block], rows["feat"]).argmax(1) == rows["label"]
    test_accuracy = right[rows["test_mask"].bool()].float().mean().item()
    val_accuracy = right[rows["val_mask"].bool()].float().mean().item()

    outputs = run_script(
        SCRIPTS / "quality.py", "--model", kind, "--classes", str(classes),
        data=tiny_parts, scratch=tmp_path,
    )  # fmt: skip
    lines = [line for output in outputs for line in output.splitlines() if line.startswith("{")]
    assert len(lines) == 2, outputs
    for line in lines:
        result = json.loads(line)
        # Rounding may decide a tie of two classes the other way.
        for found in result["found"]:
            assert found == pytest.approx([test_accuracy, val_accuracy], abs=1e-3)
        assert result["in_training_mode"]
