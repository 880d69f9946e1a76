"""Real runs with a model of one's own, and with other optimisers, schedules, metrics and tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.test_quality import OWN
from tests.end_to_end.test_train import rudder, train

pytestmark = pytest.mark.distributed


def test_an_own_model_trains_until_its_score_stands_still(tiny_parts: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("run", "forward_layer"))
    summary = train(
        tiny_parts, tmp_path, "--model", "own.py:make", "--optimizer", "SGD:momentum=0.9",
        "--lr", "0.1", "--scheduler", "plateau:patience=0", "--class-weights", "balanced",
        "--metric", "macro-F1", "--early-stop", "1", "--epochs", "30",
    )  # fmt: skip
    evaluations = summary["evaluations"]
    names = [score["name"] for score in evaluations[-1]["scores"]]
    assert names == ["macro-F1", "accuracy", "micro-F1"]
    merits = [evaluation["scores"][0]["val"] for evaluation in evaluations]
    assert len(merits) == len(summary["epoch_seconds"])
    if len(merits) < 30:
        assert merits[-1] <= max(merits[:-1])
    assert summary["test_accuracy"] > 0.3


def test_numbers_are_learned(tiny_parts: Path, tmp_path: Path) -> None:
    summary = train(
        tiny_parts, tmp_path, "--task", "regression", "--epochs", "3", "--scheduler", "cosine",
        "--lr", "0.02",
    )  # fmt: skip
    scores = summary["evaluations"][-1]["scores"]
    assert [score["name"] for score in scores] == ["R2", "MSE", "MAE"]
    assert summary["test_accuracy"] is None
    assert scores[0]["test"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bad.py:make"], 'bad.py", line 2, in make'),
        (["--device", "cuda"], "device = cuda, but torch"),
        (["--optimizer", "LBFGS"], "cannot make a step"),
        (["--metric", "speed"], "metric = 'speed' is not allowed"),
        (["--stall-timeout", "inf"], "stall_timeout = inf is not allowed"),
    ],
)
def test_what_cannot_work_ends_before_a_process_starts(
    tiny_parts: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.py").write_text("def make(*a):\n    return 1 / 0\n")
    done = rudder("train", "--data", str(tiny_parts), "--run-dir", "run", *arguments, cwd=tmp_path)
    assert done.returncode in (2, 4)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
