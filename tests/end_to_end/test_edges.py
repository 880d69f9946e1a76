"""EdgeLoader gives what DGL gives, drops what DGL ignores, and runs learn with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.jobs import SCRIPTS, run_script
from tests.end_to_end.test_train import train

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize("wire", ["lean", "stock"])
def test_batches_of_edges_are_those_of_dgl(wire: str, tiny_parts: Path, tmp_path: Path) -> None:
    """On two hosts; with the lean wire of two servers and two trainers each."""
    outputs = run_script(
        SCRIPTS / "edges.py", "--wire", wire, "--scratch", str(tmp_path),
        data=tiny_parts, scratch=tmp_path, per_host=2 if wire == "lean" else 1,
    )  # fmt: skip
    for output in outputs:
        (line,) = (line for line in output.splitlines() if line.startswith("{"))
        wrong = json.loads(line)
        assert {what: count for what, count in wrong.items() if count} == {}
        assert len(wrong) > (20 if wire == "lean" else 15)


@pytest.mark.parametrize(("loader", "per_host", "seeds"), [("rudder", 2, 2000), ("stock", 1, 4000)])
def test_link_prediction_learns(
    loader: str, per_host: int, seeds: int, tiny_parts: Path, tmp_path: Path
) -> None:
    summary = train(
        tiny_parts, tmp_path, "--task", "link-prediction", "--loader", loader, "--epochs", "6",
        "--batch-size", "256", "--max-seeds", str(seeds), "--lr", "0.01", "--dropout", "0",
        "--trainers-per-host", str(per_host), "--controller", "on" if per_host > 1 else "none",
        "--memory", "none",
    )  # fmt: skip
    mrr, hits = summary["evaluations"][-1]["scores"]
    assert (mrr["name"], hits["name"]) == ("MRR", "Hits@10")
    by_chance = sum(1 / rank for rank in range(1, 102)) / 101
    assert min(mrr["test"], mrr["val"]) > 1.5 * by_chance
    assert min(hits["test"], hits["val"]) > 1.5 * 10 / 101
    losses = [epoch["loss"] for epoch in summary["ranks"][0]["epochs"]]
    assert losses[-1] < losses[0]
