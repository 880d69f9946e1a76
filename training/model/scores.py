"""Scores of outputs, over all ranks: from sums of tallies, or by a metric of torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.nn import functional

from rudder.training.config import NamedOptions
from rudder.training.errors import ConfigError, DataError
from rudder.training.metrics import Score
from rudder.training.model.shard import Collectives

LabelKind = Literal["multiclass", "multilabel", "regression"]
_SHORT: dict[str, tuple[str, dict[str, str]]] = {
    "macro-f1": ("F1Score", {"average": "macro"}),
    "weighted-f1": ("F1Score", {"average": "weighted"}),
    "balanced-accuracy": ("Accuracy", {"average": "macro"}),
    "precision": ("Precision", {"average": "macro"}),
    "recall": ("Recall", {"average": "macro"}),
    "auc": ("AUROC", {}),
    "average-precision": ("AveragePrecision", {}),
    "mcc": ("MatthewsCorrCoef", {}),
    "kappa": ("CohenKappa", {}),
    "pearson": ("PearsonCorrCoef", {}),
    "spearman": ("SpearmanCorrCoef", {}),
}
OWN_METRICS: dict[LabelKind, tuple[str, ...]] = {
    "multiclass": ("accuracy", "micro-F1"),
    "multilabel": ("accuracy", "micro-F1"),
    "regression": ("R2", "MSE", "MAE"),
}
"""What is always told, the main one first."""


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


def scores_of(test: Tensor, val: Tensor) -> tuple[Score, ...]:
    """Accuracy and micro-F1 of sums of tallies, int64[5].

    Raises DataError where there was nothing to test.
    """
    check_test_set(int(test[0]))
    return (
        Score(name="accuracy", test=_accuracy(test), val=_accuracy(val)),
        Score(name="micro-F1", test=_f1(test), val=_f1(val)),
    )


def check_test_set(num_nodes: int) -> None:
    """Raise DataError for an empty one."""
    if num_nodes == 0:
        raise DataError(
            "no node is in the test set", remedy="give the graph a test_mask that is not empty"
        )


def _accuracy(counts: Tensor) -> float | None:
    decisions, right = counts[:2].tolist()
    return right / decisions if decisions else None


def _f1(counts: Tensor) -> float | None:
    decisions, _, true_positive, false_positive, false_negative = counts.tolist()
    if not decisions:
        return None
    errors = false_positive + false_negative
    return 2 * true_positive / (2 * true_positive + errors) if true_positive else 0.0


def error_sums(outputs: Tensor, labels: Tensor) -> Tensor:
    """float64[5] for outputs and labels [n, width]: their number, and sums of squared errors, of
    absolute errors, of labels and of squared labels."""
    outputs, labels = outputs.double(), labels.double()
    errors = outputs - labels
    count = errors.new_tensor(errors.numel())
    return torch.stack(
        [count, (errors**2).sum(), errors.abs().sum(), labels.sum(), (labels**2).sum()]
    )


def regression_scores(test: Tensor, val: Tensor) -> tuple[Score, ...]:
    """R2, mean squared and mean absolute error of `error_sums`, over all columns of labels.

    Raises DataError where there was nothing to test.
    """
    check_test_set(int(test[0]))
    pairs = zip(_errors(test), _errors(val), strict=True)
    return tuple(
        Score(name=name, test=of_test, val=of_val, higher_is_better=name == "R2")
        for name, (of_test, of_val) in zip(OWN_METRICS["regression"], pairs, strict=True)
    )


def _errors(sums: Tensor) -> tuple[float | None, ...]:
    count, squared, absolute, total, squares = sums.tolist()
    if not count:
        return None, None, None
    spread = squares - total**2 / count
    return (1 - squared / spread if spread > 0 else None), squared / count, absolute / count


# -- torchmetrics -----------------------------------------------------------------------------


def make_metric(named: NamedOptions, *, kind: LabelKind, width: int) -> Any:
    """The metric of torchmetrics of that name, for outputs of this width.

    Raises ConfigError for an unknown name, and for options that it does not take.
    """
    import torchmetrics

    name, options = _SHORT.get(named.name.lower(), (named.name, {}))
    made: dict[str, Any] = {**options, **named.options}
    if kind != "regression":
        made |= {"task": kind, "num_classes" if kind == "multiclass" else "num_labels": width}
    maker = getattr(torchmetrics, name, None)
    if not isinstance(maker, type) or not issubclass(maker, torchmetrics.Metric):
        own = ", ".join(OWN_METRICS[kind])
        raise ConfigError.for_field(
            "metric",
            value=named.name,
            allowed=f"{own}, {', '.join(_SHORT)}, or the name of a class in torchmetrics",
        )
    try:
        metric = maker(**made, dist_sync_fn=_gather)
        trial = torch.arange(2 * width).view(2, width) % 2
        labels = trial[:, 0] if kind == "multiclass" else trial
        metric.update(*_prepared(trial.float(), labels, kind=kind))
        float(metric.compute())
        metric.reset()
    except Exception as error:  # whatever a class of torchmetrics says of what it was given
        raise ConfigError(
            f"metric = {str(named)!r} cannot be used for {kind} outputs of width {width}:"
            f" {type(error).__name__}: {error}",
            remedy="choose a metric of one number for this task, such as those of --help",
        ) from None
    return metric


def score_of(
    metric: Any, outputs: Tensor, labels: Tensor, *, kind: LabelKind, collectives: Collectives
) -> float | None:
    """The metric over all ranks' rows, None where there are none; all ranks call it together."""
    num_rows = int(collectives.sum(torch.tensor([len(outputs)]))[0])
    if num_rows == 0:
        return None
    metric.reset()
    if len(outputs):
        metric.update(*_prepared(outputs, labels, kind=kind))
    return float(metric.compute())


def _prepared(outputs: Tensor, labels: Tensor, *, kind: LabelKind) -> tuple[Tensor, Tensor]:
    """Shares and class numbers, as torchmetrics takes them; of one column a vector."""
    if kind == "multiclass":
        return functional.softmax(outputs, dim=1).clamp(0, 1), labels.long()
    if kind == "multilabel":
        return torch.sigmoid(outputs), labels.reshape(outputs.shape).long()
    labels = labels.reshape(len(labels), -1).expand_as(outputs).float()
    return outputs.squeeze(1), labels.squeeze(1)


def _gather(value: Tensor, group: Any = None) -> Sequence[Tensor]:
    """Every rank's state, of ranks that have one: a rank may have no row."""
    found: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, value.cpu(), group=group)
    return [each.to(value.device) for each in found if each.numel()] or found
