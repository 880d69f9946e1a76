"""Losses and scores of tasks."""

from __future__ import annotations

import pytest
import torch

from rudder.training.errors import DataError
from rudder.training.metrics import Score
from rudder.training.model.task import scores_of, tally


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


def test_an_empty_test_set_is_an_error() -> None:
    nothing = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(DataError, match="no node is in the test set"):
        scores_of(nothing, nothing)
