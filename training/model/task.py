"""What a run learns: how wide its model's output is, its loss, and how good a model is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from rudder.training.errors import DataError
from rudder.training.loading.batch import Batch
from rudder.training.manifest import FEATURE, LABEL
from rudder.training.metrics import Score
from rudder.training.model.inference import infer_nodes, local_rows
from rudder.training.model.shard import Exchange
from rudder.training.partitioned_graph import PartitionedGraph


class Task(Protocol):
    """What a run learns; `make_task` makes the task of a run."""

    @property
    def num_outputs(self) -> int:
        """Width of the model's output."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Scalar that training makes small; outputs: [seeds, num_outputs] of the batch's seeds."""

    def evaluate(
        self,
        graph: Any,
        model: nn.Module,
        *,
        device: torch.device,
        on_progress: Callable[[], object] = lambda: None,
    ) -> tuple[Score, ...]:
        """Scores over all ranks, the main one first; every rank calls this at the same time.

        graph: a DistGraph; on_progress: called now and then, so that a long evaluation is not
        taken for a stalled one. Every rank returns the same. No other thread uses DGL's RPC.
        """


def make_task(graph: PartitionedGraph) -> Task:
    """The task of a run."""
    return NodeClassification(graph.num_classes, multilabel=graph.multilabel)


@dataclass(frozen=True)
class NodeClassification:
    """Classes of nodes: one for each node, or with `multilabel` any number of them.

    Labels are int64[n] class numbers, with `multilabel` [n, classes] of 0 and 1.
    """

    num_classes: int
    multilabel: bool = False

    @property
    def num_outputs(self) -> int:
        """A number for each class."""
        return self.num_classes

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy, of a multi-label data set mean binary cross entropy."""
        return self.loss_of(outputs, batch.blocks[-1].dstdata[LABEL])

    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same of outputs float[n, classes] and their labels."""
        if self.multilabel:
            labels = labels.to(outputs.dtype)
            return functional.binary_cross_entropy_with_logits(outputs, labels)
        return functional.cross_entropy(outputs, labels.long())

    def evaluate(
        self,
        graph: Any,
        model: nn.Module,
        *,
        device: torch.device,
        on_progress: Callable[[], object] = lambda: None,
    ) -> tuple[Score, ...]:
        """Accuracy and micro-F1; a multi-label accuracy is the share of labels that are right.

        Raises DataError for labels that the model cannot give, and for an empty test set.
        """
        test, val = (local_rows(graph, name).bool() for name in ("test_mask", "val_mask"))
        found = infer_nodes(
            graph,
            model,
            wanted=test | val,
            device=device,
            feature_name=FEATURE,
            on_progress=on_progress,
        )
        labels = self._checked(local_rows(graph, LABEL)[found.nodes])
        tallies = tally(found.rows, labels, multilabel=self.multilabel)
        of_sets = [tallies[mask[found.nodes]].sum(0) for mask in (test, val)]
        return scores_of(*Exchange(device).sum(torch.stack(of_sets)))

    def _checked(self, labels: Tensor) -> Tensor:
        if self.multilabel:
            fits = labels.shape[1:] == (self.num_classes,)
        else:
            fits = labels.dim() == 1 and bool(((labels >= 0) & (labels < self.num_classes)).all())
        if not fits:
            raise DataError(
                f"test and validation labels {tuple(labels.shape)} do not fit"
                f" {self.num_classes} classes",
                remedy="prepare the graph again; labels count from 0, or are a 0 or 1 for each"
                " class",
            )
        return labels


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
    if test[0] == 0:
        raise DataError(
            "no node is in the test set", remedy="give the graph a test_mask that is not empty"
        )
    return (
        Score(name="accuracy", test=_accuracy(test), val=_accuracy(val)),
        Score(name="micro-F1", test=_f1(test), val=_f1(val)),
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
