"""Accuracy and micro-F1 from counts that can be added up over nodes and ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from rudder.training.errors import DataError


def tally(outputs: Tensor, labels: Tensor, *, multilabel: bool) -> Tensor:
    """int64[n, 5] for float[n, classes] outputs and [n] or [n, classes] labels.

    The columns: decisions, right decisions, true positives, false positives, false negatives. A
    single-label node is one decision, a multi-label node one for each class.
    """
    if not multilabel:
        right = (outputs.argmax(1) == labels.long()).long()
        return torch.stack([torch.ones_like(right), right, right, 1 - right, 1 - right], dim=1)
    chosen, true = outputs > 0, labels > 0.5
    cases = (torch.ones_like(true), chosen == true, chosen & true, chosen & ~true, ~chosen & true)
    return torch.stack([case.sum(1) for case in cases], dim=1)


def quality(test: Tensor, val: Tensor) -> tuple[float, float | None, float]:
    """(test accuracy, validation accuracy or None, test micro-F1) of sums of tallies, int64[5].

    Raises DataError where there was nothing to test.
    """
    decisions, right, true_positive, false_positive, false_negative = test.tolist()
    if decisions == 0:
        raise DataError(
            "no node is in the test set", remedy="give the graph a test_mask that is not empty"
        )
    errors = false_positive + false_negative
    f1 = 2 * true_positive / (2 * true_positive + errors) if true_positive else 0.0
    return right / decisions, _accuracy(val), f1


def _accuracy(counts: Tensor) -> float | None:
    decisions, right = counts[:2].tolist()
    return right / decisions if decisions else None
