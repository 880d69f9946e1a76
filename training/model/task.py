"""What a run learns: how wide its model's output is, its loss, and how good a model is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rudder.training.config import BALANCED, NamedOptions, RunConfig
from rudder.training.errors import ARCHIVE_ERRORS, ConfigError, DataError
from rudder.training.loading.batch import Batch
from rudder.training.manifest import FEATURE, LABEL
from rudder.training.metrics import Score
from rudder.training.model.inference import infer_nodes, local_rows
from rudder.training.model.link_prediction import LinkPrediction
from rudder.training.model.scores import (
    OWN_METRICS,
    LabelKind,
    error_sums,
    make_metric,
    regression_scores,
    score_of,
    scores_of,
    tally,
)
from rudder.training.model.shard import Collectives
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


def make_task(config: RunConfig, graph: PartitionedGraph, dist_graph: Any = None) -> Task:
    """The task of a run; dist_graph: DistGraph, whose classes `--class-weights balanced` counts.

    Every rank calls this at the same time. Raises ConfigError for a metric or class weights that
    do not fit the task.
    """
    metric = config.metric_options
    if config.task == "link-prediction":
        return LinkPrediction(config.hidden, config.edge_split)
    if config.task == "regression":
        return NodeRegression(graph.label.width, metric=metric)
    weights = make_class_weights(config, graph, dist_graph)
    return NodeClassification(
        graph.num_classes, multilabel=graph.multilabel, class_weights=weights, metric=metric
    )


class _NodeTask(ABC):
    """Labels of nodes, in the node tensor `label`."""

    num_outputs: int
    kind: LabelKind

    def __init__(self, num_outputs: int, *, kind: LabelKind, metric: NamedOptions | None) -> None:
        self.num_outputs, self.kind = num_outputs, kind
        names = OWN_METRICS[kind]
        self._main = next((name for name in names if metric and metric.is_just(name)), names[0])
        is_other = metric is not None and not metric.is_just(self._main)
        self._metric = (
            make_metric(metric, kind=kind, width=num_outputs) if metric and is_other else None
        )
        self._metric_name = str(metric)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss of the batch's seeds."""
        return self.loss_of(outputs, batch.blocks[-1].dstdata[LABEL])

    @abstractmethod
    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The same of outputs [n, num_outputs] and their labels."""

    def evaluate(
        self,
        graph: Any,
        model: nn.Module,
        *,
        device: torch.device,
        on_progress: Callable[[], object] = lambda: None,
    ) -> tuple[Score, ...]:
        """Scores on the test and validation nodes, over all ranks, the main one first.

        Raises DataError for labels that the model cannot give, and for an empty test set.
        """
        masks = [local_rows(graph, name).bool() for name in ("test_mask", "val_mask")]
        found = infer_nodes(
            graph,
            model,
            wanted=masks[0] | masks[1],
            device=device,
            feature_name=FEATURE,
            on_progress=lambda share: on_progress(),
        )
        labels = self._checked(local_rows(graph, LABEL)[found.nodes])
        collectives, sets = Collectives(device), [mask[found.nodes] for mask in masks]
        scores = self._scores(found.rows, labels, sets, collectives)
        scores = sorted(scores, key=lambda score: score.name != self._main)
        if self._metric is None:
            return tuple(scores)
        test, val = (
            score_of(
                self._metric, found.rows[own], labels[own], kind=self.kind, collectives=collectives
            )
            for own in sets
        )
        better = self._metric.higher_is_better is not False
        main = Score(name=self._metric_name, test=test, val=val, higher_is_better=better)
        return (main, *scores)

    @abstractmethod
    def _checked(self, labels: Tensor) -> Tensor:
        """Raise DataError unless the labels fit."""

    @abstractmethod
    def _scores(
        self, outputs: Tensor, labels: Tensor, sets: list[Tensor], collectives: Collectives
    ) -> Sequence[Score]:
        """What is always told; sets: which rows are of the test and of the validation set."""


class NodeClassification(_NodeTask):
    """Classes of nodes: one for each node, or with `multilabel` any number of them.

    Labels are int64[n] class numbers, with `multilabel` [n, classes] of 0 and 1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        multilabel: bool = False,
        class_weights: Tensor | None = None,
        metric: NamedOptions | None = None,
    ) -> None:
        """class_weights: float32[classes], of a class or, with `multilabel`, of its ones."""
        kind: LabelKind = "multilabel" if multilabel else "multiclass"
        super().__init__(num_classes, kind=kind, metric=metric)
        self._multilabel, self._weights = multilabel, class_weights

    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy, of a multi-label data set mean binary cross entropy."""
        weights = None if self._weights is None else self._weights.to(outputs.device)
        if self._multilabel:
            labels = labels.to(outputs.dtype)
            return functional.binary_cross_entropy_with_logits(outputs, labels, pos_weight=weights)
        return functional.cross_entropy(outputs, labels.long(), weight=weights)

    def _scores(
        self, outputs: Tensor, labels: Tensor, sets: list[Tensor], collectives: Collectives
    ) -> Sequence[Score]:
        tallies = tally(outputs, labels, multilabel=self._multilabel)
        return scores_of(*collectives.sum(torch.stack([tallies[own].sum(0) for own in sets])))

    def _checked(self, labels: Tensor) -> Tensor:
        if self._multilabel:
            fits = labels.shape[1:] == (self.num_outputs,)
        else:
            fits = labels.dim() == 1 and bool(((labels >= 0) & (labels < self.num_outputs)).all())
        if not fits:
            raise DataError(
                f"test and validation labels {tuple(labels.shape)} do not fit"
                f" {self.num_outputs} classes",
                remedy="prepare the graph again; labels count from 0, or are a 0 or 1 for each"
                " class",
            )
        return labels


class NodeRegression(_NodeTask):
    """Numbers of nodes; labels are [n] or [n, width] of any dtype."""

    def __init__(self, width: int, *, metric: NamedOptions | None = None) -> None:
        """width: numbers of a node."""
        super().__init__(width, kind="regression", metric=metric)

    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error."""
        return functional.mse_loss(outputs, labels.reshape(outputs.shape).to(outputs.dtype))

    def _scores(
        self, outputs: Tensor, labels: Tensor, sets: list[Tensor], collectives: Collectives
    ) -> Sequence[Score]:
        labels = labels.reshape(outputs.shape)
        sums = torch.stack([error_sums(outputs[own], labels[own]) for own in sets])
        return regression_scores(*collectives.sum(sums))

    def _checked(self, labels: Tensor) -> Tensor:
        if labels[:1].numel() not in (0, self.num_outputs) or not torch.isfinite(labels).all():
            raise DataError(
                f"test and validation labels {tuple(labels.shape)} are not"
                f" {self.num_outputs} finite numbers for each node",
                remedy="give every test and validation node its numbers, or leave it out of the"
                " masks",
            )
        return labels


def make_class_weights(
    config: RunConfig, graph: PartitionedGraph, dist_graph: Any
) -> Tensor | None:
    """float32[classes] as `--class-weights` says, None without; ones without a DistGraph.

    balanced: all classes together weigh the same, of a multi-label data set ones and zeros of a
    class. Raises ConfigError for a file without a positive number for each class.
    """
    choice, num_classes = config.class_weights, graph.num_classes
    if choice is None:
        return None
    if choice != BALANCED:
        return _weights_of_file(Path(choice), num_classes=num_classes)
    if dist_graph is None:
        return torch.ones(num_classes)
    labels = local_rows(dist_graph, LABEL)[local_rows(dist_graph, "train_mask").bool()]
    ones = labels.sum(0) if graph.multilabel else labels.long().bincount(minlength=num_classes)
    collectives = Collectives(torch.device(config.device))
    counts = collectives.sum(torch.cat([torch.tensor([len(labels)]), ones.long()])).float()
    total, ones = counts[0], counts[1:].clamp(min=1)
    return (total - ones).clamp(min=1) / ones if graph.multilabel else total / (ones * num_classes)


def _weights_of_file(file: Path, *, num_classes: int) -> Tensor:
    allowed = f"{BALANCED}, or a file with {num_classes} positive numbers, one for each class"
    try:
        if file.suffix == ".npy":
            weights = np.asarray(np.load(file, allow_pickle=False)).reshape(-1)
        else:
            words = re.split(r"[\s,;\[\]]+", file.read_text().strip("[] \n"))
            weights = np.array([float(word) for word in words])
        if weights.dtype.kind not in "fiu":
            raise ValueError(f"it holds {weights.dtype}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            weights = weights.astype(np.float32)
    except ARCHIVE_ERRORS as error:
        raise ConfigError.for_field(
            "class_weights", value=str(file), allowed=f"{allowed} ({error})"
        ) from None
    if len(weights) != num_classes or not (np.isfinite(weights) & (weights > 0)).all():
        raise ConfigError.for_field(
            "class_weights", value=str(file), allowed=f"{allowed}; it has {weights.tolist()}"
        )
    return torch.from_numpy(weights)
