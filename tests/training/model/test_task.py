"""Losses and scores of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics

from rudder.training.config import NamedOptions, run_config
from rudder.training.errors import ConfigError, DataError
from rudder.training.metrics import Score
from rudder.training.model.scores import (
    error_sums,
    make_metric,
    regression_scores,
    score_of,
    scores_of,
    tally,
)
from rudder.training.model.shard import Collectives
from rudder.training.model.task import NodeClassification, NodeRegression, make_task
from tests.training.partitioned import partitioned_graph

GRAPH = partitioned_graph(feature_dim=6, num_classes=4)
ALONE = Collectives(torch.device("cpu"))


def test_single_label_scores_are_the_share_of_right_classes() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [5.0, 1.0]])
    tallies = tally(outputs, torch.tensor([0, 1, 1, 0]), multilabel=False)
    assert scores_of(tallies.sum(0), tallies[:2].sum(0)) == (
        Score(name="accuracy", test=0.75, val=1.0),
        Score(name="micro-F1", test=0.75, val=1.0),
    )


def test_multi_label_scores_count_every_label() -> None:
    outputs = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    sums = tally(outputs, labels, multilabel=True).sum(0)
    accuracy, f1 = scores_of(sums, torch.zeros(5, dtype=torch.int64))
    assert accuracy == Score(name="accuracy", test=4 / 6, val=None)
    assert f1 == Score(name="micro-F1", test=2 * 2 / (2 * 2 + 1 + 1), val=None)


@pytest.mark.parametrize("scores", [scores_of, regression_scores])
def test_an_empty_test_set_is_an_error(scores: Any) -> None:
    nothing = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(DataError, match="no node is in the test set"):
        scores(nothing, nothing)


def test_regression_scores_are_those_of_torchmetrics_however_rows_are_split() -> None:
    torch.manual_seed(0)
    outputs, labels = torch.randn(50, 1), torch.randn(50, 1) + 2000
    sums = error_sums(outputs[:20], labels[:20]) + error_sums(outputs[20:], labels[20:])
    r2, mse, mae = regression_scores(sums, torch.zeros(5))
    functional = torchmetrics.functional
    flat = outputs.squeeze(1).double(), labels.squeeze(1).double()
    assert r2.test == pytest.approx(float(functional.r2_score(*flat)), rel=1e-6)
    assert mse.test == pytest.approx(float(functional.mean_squared_error(*flat)))
    assert mae.test == pytest.approx(float(functional.mean_absolute_error(*flat)))
    assert [score.higher_is_better for score in (r2, mse, mae)] == [True, False, False]
    assert r2.val is None


def test_labels_without_spread_have_no_r2() -> None:
    sums = error_sums(torch.zeros(3, 1), torch.ones(3, 1))
    assert regression_scores(sums, sums)[0].test is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("macro-F1", (1.0 + 2 / 3 + 0) / 3),
        ("balanced-accuracy", (1.0 + 1 + 0) / 3),
        ("F1Score:average='micro'", 0.75),
        ("kappa", 0.6),
    ],
)
def test_a_metric_of_torchmetrics_is_told(name: str, expected: float) -> None:
    metric = make_metric(NamedOptions.parse(name), kind="multiclass", width=3)
    outputs = torch.eye(3)[[0, 0, 1, 1]] * 9
    labels = torch.tensor([0, 0, 1, 2])
    for _ in range(2):
        found = score_of(metric, outputs, labels, kind="multiclass", collectives=ALONE)
        assert found == pytest.approx(expected, abs=1e-6)
    assert score_of(metric, outputs[:0], labels[:0], kind="multiclass", collectives=ALONE) is None


def test_auc_takes_any_outputs_as_scores() -> None:
    metric = make_metric(NamedOptions.parse("AUC"), kind="multilabel", width=2)
    outputs = torch.tensor([[0.1, 5.0], [0.2, -5.0], [0.3, 7.0]])
    labels = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert score_of(metric, outputs, labels, kind="multilabel", collectives=ALONE) == 1


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("speed", "multiclass", "macro-f1.*or the name of a class in torchmetrics"),
        ("Metric", "multiclass", "cannot be used|allowed"),
        ("F1Score:average='loud'", "multiclass", "cannot be used for multiclass"),
        ("ConfusionMatrix", "multiclass", "cannot be used"),
        ("BLEUScore", "regression", "cannot be used|allowed"),
    ],
)
def test_what_is_no_score_of_the_task_is_refused(name: str, kind: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_metric(NamedOptions.parse(name), kind=kind, width=3)


def test_weights_of_classes_are_read_and_used(tmp_path: Path) -> None:
    np.save(tmp_path / "weights.npy", np.array([1.0, 2, 3, 4]))
    (tmp_path / "weights.json").write_text("[1, 2.0, 3, 4]\n")
    outputs, labels = torch.randn(8, 4), torch.arange(8) % 4
    weights = torch.tensor([1.0, 2, 3, 4])
    expected = torch.nn.functional.cross_entropy(outputs, labels, weight=weights)
    for file in ("weights.npy", "weights.json"):
        task = make_task(run_config(class_weights=str(tmp_path / file)), GRAPH)
        assert isinstance(task, NodeClassification)
        assert torch.equal(task.loss_of(outputs, labels), expected)


@pytest.mark.parametrize(
    "text", ["1 2 3", "1 2 3 0", "1 2 3 nan", "1 2 3 x", "", "-1 1 1 1", "1 2 3 1e300"]
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.txt").write_text(text)
    with pytest.raises(ConfigError, match="4 positive numbers"):
        make_task(run_config(class_weights=str(tmp_path / "weights.txt")), GRAPH)


@pytest.mark.parametrize("damage", [(b"<f8", b"<c8"), (b"(4,)", b"(4,{"), (b"(4,)", b"({[]:1})")])
def test_damaged_file_of_weights_is_refused(tmp_path: Path, damage: tuple[bytes, bytes]) -> None:
    path = tmp_path / "weights.npy"
    np.save(path, np.ones(4))
    path.write_bytes(path.read_bytes().replace(*damage))
    with pytest.raises(ConfigError, match="4 positive numbers"):
        make_task(run_config(class_weights=str(path)), GRAPH)


def test_numbers_of_nodes_are_learned_by_squared_error() -> None:
    task = make_task(run_config(task="regression"), GRAPH)
    assert isinstance(task, NodeRegression)
    assert task.num_outputs == 1
    outputs = torch.tensor([[1.0], [2.0]])
    assert task.loss_of(outputs, torch.tensor([3, 2])).item() == 2.0
