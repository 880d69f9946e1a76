"""The training loop that every loader's batches go through: forward, backward, step, accounts."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rudder.training.config import RunConfig
from rudder.training.events import Emit, EpochDone
from rudder.training.manifest import Manifest
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds
from rudder.training.model.models import BlockModel, make_loss, make_model
from rudder.training.sources import Source, Step


@dataclass
class _Sum:
    """Sums since an epoch began."""

    steps: int = 0
    rows: RowCounts = field(default_factory=RowCounts)
    seconds: Seconds = field(default_factory=Seconds)
    of_steps: list[float] = field(default_factory=list)

    def add(self, rows: RowCounts, seconds: Seconds) -> None:
        self.steps += 1
        self.rows += rows
        self.seconds += seconds
        self.of_steps.append(seconds.exposed_wait + seconds.compute)

    @property
    def step_seconds_p99(self) -> float | None:
        ordered = sorted(self.of_steps)
        return ordered[int(0.99 * len(ordered))] if ordered else None


class EpochRecorder:
    """One rank's accounts."""

    def __init__(self) -> None:
        self._epoch = 0
        self._of_epoch = _Sum()
        self._epoch_started = 0.0
        self._loss: torch.Tensor | None = None
        self.epochs: list[EpochMetrics] = []

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._of_epoch.steps

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins now."""
        self._epoch = epoch
        self._of_epoch = _Sum()
        self._loss = None
        self._epoch_started = time.perf_counter()

    def step(self, *, rows: RowCounts, seconds: Seconds, loss: torch.Tensor) -> None:
        """A step is done; loss: scalar, kept as a tensor so that nothing waits for it."""
        self._of_epoch.add(rows, seconds)
        detached = loss.detach()
        self._loss = detached if self._loss is None else self._loss + detached

    def finish_epoch(self) -> EpochMetrics:
        """The epoch's sums."""
        done = self._of_epoch
        loss = None if self._loss is None else float(self._loss) / max(done.steps, 1)
        metrics = EpochMetrics(
            epoch=self._epoch,
            num_steps=done.steps,
            seconds_total=time.perf_counter() - self._epoch_started,
            seconds=done.seconds,
            rows=done.rows,
            loss=loss,
            step_seconds_p99=done.step_seconds_p99,
        )
        self.epochs.append(metrics)
        return metrics


class TrainingLoop:
    """One rank's model and optimiser, trained together with all other ranks'."""

    def __init__(
        self, config: RunConfig, manifest: Manifest, *, rank: int, num_steps: int, emit: Emit
    ) -> None:
        """num_steps: this rank's steps of an epoch. All ranks make their loops at the same time."""
        self._rank, self._emit = rank, emit
        torch.manual_seed(config.seed)
        self.model = _make_model(config, manifest)
        self._ddp = DistributedDataParallel(self.model)
        self._optimizer = torch.optim.Adam(self._ddp.parameters(), lr=config.lr)
        self._loss = make_loss(multilabel=manifest.multilabel)
        self._recorder = EpochRecorder()
        self._uneven = _is_uneven(num_steps)

    @property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """What was measured of each epoch so far."""
        return tuple(self._recorder.epochs)

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._recorder.step_in_epoch

    def train_epoch(self, epoch: int, source: Source) -> None:
        """One pass over a source's batches; tells of the epoch's end."""
        self._ddp.train()  # type: ignore[no-untyped-call]
        self._recorder.start_epoch(epoch)
        with self._joined():
            for step in source.epoch():
                started = time.perf_counter()
                loss = self._train_step(step)
                compute = Seconds(compute=time.perf_counter() - started)
                self._recorder.step(rows=step.rows, seconds=step.seconds + compute, loss=loss)
        metrics = self._recorder.finish_epoch()
        self._emit(EpochDone(rank=self._rank, metrics=metrics))

    def warm_up(self, source: Source) -> None:
        """One pass without accounts."""
        self._ddp.train()  # type: ignore[no-untyped-call]
        with self._joined():
            for step in source.epoch():
                self._train_step(step)

    def _train_step(self, step: Step) -> torch.Tensor:
        outputs = self._ddp(step.blocks, step.features)
        loss = self._loss(outputs, step.labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss

    def _joined(self) -> AbstractContextManager[Any]:
        return self._ddp.join() if self._uneven else nullcontext()


def _make_model(config: RunConfig, manifest: Manifest) -> BlockModel:
    model = make_model(
        config.model,
        in_dim=manifest.feature_dim,
        hidden=config.hidden,
        num_classes=manifest.num_classes,
        num_layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
    )
    return model.to(config.device)


def _is_uneven(num_steps: int) -> bool:
    """Whether ranks have unequal numbers of steps; asks all ranks."""
    lowest, highest = torch.tensor([num_steps]), torch.tensor([num_steps])
    distributed.all_reduce(lowest, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    return bool(lowest != highest)
