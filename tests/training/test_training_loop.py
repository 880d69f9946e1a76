"""Two ranks with a real all-reduce: what a NaN loss of one of them does to both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dgl
import torch

from rudder.training.config import run_config
from rudder.training.errors import RunError
from rudder.training.events import Event
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.manifest import FEATURE, LABEL
from rudder.training.metrics import RowCounts, Seconds
from rudder.training.trainer import TrainingLoop
from tests.training.partitioned import partitioned_graph
from tests.training.process_group import outputs_of_ranks, process_group

GRAPH = partitioned_graph(feature_dim=6, num_classes=4)
NUM_STEPS = (4, 3)
BAD_RANK, BAD_STEP = 1, 1


class MadeSource:
    """Small random batches, one of rank 1 with a feature that is NaN."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def batches(self) -> Iterator[Batch]:
        for step in range(NUM_STEPS[self._rank]):
            torch.manual_seed(10 * self._rank + step)
            blocks = [_block(9, 6), _block(6, 3)]
            x = torch.randn(9, GRAPH.feature_dim)
            if (self._rank, step) == (BAD_RANK, BAD_STEP):
                x[0, 0] = torch.nan
            blocks[0].srcdata[FEATURE] = x
            blocks[1].dstdata[LABEL] = torch.randint(0, GRAPH.num_classes, (3,))
            accounts = StepAccounts(RowCounts(), Seconds())
            yield Batch(step, torch.arange(9), torch.arange(3), blocks, accounts)


def _block(num_src: int, num_dst: int) -> dgl.DGLGraph:
    src, dst = torch.arange(num_src), torch.arange(num_src) % num_dst
    return dgl.create_block((src, dst), num_src_nodes=num_src, num_dst_nodes=num_dst)


def main(rank: int, on_nan: str) -> None:
    """Be one rank, and print what became of it."""
    told: list[Event] = []
    config = run_config(hidden=8, on_nan=on_nan)
    loop = TrainingLoop(config, GRAPH, None, rank=rank, num_steps=NUM_STEPS[rank], emit=told.append)
    error = None
    try:
        loop.train_epoch(0, MadeSource(rank))  # type: ignore[arg-type]
    except RunError as stopped:
        error = stopped.message
    result = {
        "error": error,
        "told": [each.model_dump() for each in told if each.kind == "loss"],
        "skipped": [epoch.num_skipped for epoch in loop.epochs],
        "loss": [epoch.loss for epoch in loop.epochs],
        "weights": [weight.tolist() for weight in loop.model.parameters()],
    }
    print(json.dumps(result))  # noqa: T201


def both_ranks(folder: Path, on_nan: str) -> list[dict[str, Any]]:
    module = "tests.training.test_training_loop"
    return list(map(json.loads, outputs_of_ranks(module, folder, on_nan, size=2)))


TOLD = {
    "kind": "loss",
    "rank": BAD_RANK,
    "epoch": 0,
    "step": BAD_STEP,
    "loss": "nan",
}


def test_all_ranks_skip_the_step_of_one_ranks_nan(tmp_path: Path) -> None:
    good, bad = both_ranks(tmp_path, "skip")
    assert good["told"] == []
    assert bad["told"] == [{**TOLD, "action": "such steps are skipped, on all ranks"}]
    for rank in (good, bad):
        assert (rank["error"], rank["skipped"]) == (None, [1])
        assert 0 < rank["loss"][0] < 10
        assert torch.isfinite(torch.cat([torch.tensor(w).flatten() for w in rank["weights"]])).all()
    assert good["weights"] == bad["weights"]


def test_all_ranks_stop_at_one_ranks_nan(tmp_path: Path) -> None:
    good, bad = both_ranks(tmp_path, "stop")
    assert "gradients of another rank are NaN or infinite at step 2 of epoch 1" in good["error"]
    assert bad["error"] == "the loss is nan at step 2 of epoch 1"


def test_a_nan_may_be_trained_on(tmp_path: Path) -> None:
    for rank in both_ranks(tmp_path, "continue"):
        assert (rank["error"], rank["skipped"]) == (None, [0])


if __name__ == "__main__":
    rank, folder, on_nan = sys.argv[1:]
    with process_group(int(rank), size=2, meeting=Path(folder) / "meet"):
        main(int(rank), on_nan)
