"""A metric of torchmetrics over two ranks, one of which may have no row, is that of all rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from rudder.training.config import NamedOptions
from rudder.training.model.scores import make_metric, score_of
from rudder.training.model.shard import Collectives
from tests.training.process_group import outputs_of_ranks, process_group

METRICS = ("AUC", "macro-F1", "average-precision")
SPLITS = (40, 0, 13)
"""Rows of rank 0; rank 1 has the others of 40."""


def scores(rank: int, collectives: Collectives) -> list[float | None]:
    torch.manual_seed(0)
    outputs, labels = torch.randn(40, 3), torch.arange(40) % 3
    found = []
    for name in METRICS:
        metric = make_metric(NamedOptions.parse(name), kind="multiclass", width=3)
        for split in SPLITS:
            own = slice(0, split) if rank == 0 else slice(split, 40)
            own = own if collectives.num_ranks > 1 else slice(0, 40)
            rows = outputs[own], labels[own]
            found.append(score_of(metric, *rows, kind="multiclass", collectives=collectives))
    return found


def main(rank: int, folder: Path) -> None:
    with process_group(rank, size=2, meeting=folder / "meet"):
        found = scores(rank, Collectives(torch.device("cpu")))
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


def test_ranks_together_find_the_score_of_all_rows(tmp_path: Path) -> None:
    outputs_of_ranks("tests.training.model.test_metrics_of_ranks", tmp_path, size=2)
    expected = pytest.approx(scores(0, Collectives(torch.device("cpu"))))
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == expected


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
