"""One trainer: connects to the graph servers, trains, evaluates, and reports as it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dgl
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rudder.training.config import RunConfig
from rudder.training.events import (
    EpochDone,
    Evaluated,
    Event,
    PhaseEntered,
    Progress,
    Reported,
)
from rudder.training.inference import evaluate
from rudder.training.job import Job
from rudder.training.manifest import Manifest
from rudder.training.metrics import Evaluation, RankReport, Seconds
from rudder.training.models import BlockModel, make_loss, make_model
from rudder.training.recorder import Recorder
from rudder.training.sources import FEATURE, LABEL, RudderSource, Source, Step, StockSource
from rudder.training.warm_up import warm_up

Emit = Callable[[Event], None]


def run_trainer(job: Job, rank: int, emit: Emit) -> None:
    """Be trainer `rank` of a run, from connecting to the report."""
    graph = _connect(job, rank)
    emit(PhaseEntered(role="trainer", rank=rank, phase="connected"))
    trainer = Trainer(job, rank, graph, emit)
    trainer.run()
    distributed.barrier()
    distributed.destroy_process_group()


def _connect(job: Job, rank: int) -> Any:
    kernels = threading.Thread(target=warm_up)
    kernels.start()
    dgl.distributed.initialize(str(job.ip_config))
    _meet(job, rank)
    kernels.join()
    return dgl.distributed.DistGraph(job.graph_name, part_config=str(job.part_config))


def _meet(job: Job, rank: int) -> None:
    """Join the process group: over a file where hosts share the loopback, for torch's own store
    listens on every interface; over the first host's private network elsewhere."""
    backend = "nccl" if job.config.device == "cuda" else "gloo"
    where = "env://" if job.network == "namespace" else f"file://{job.run_dir}/rendezvous"
    size = job.config.num_trainers
    distributed.init_process_group(backend, init_method=where, rank=rank, world_size=size)


class Trainer:
    """The training loop: for every batch forward, backward, step; accounts beside it."""

    def __init__(self, job: Job, rank: int, graph: Any, emit: Emit) -> None:
        self._job, self._config, self._rank = job, job.config, rank
        self._graph, self._emit = graph, emit
        self._manifest = Manifest.read(job.data_dir)
        self._source = _make_source(job, rank, graph)
        torch.manual_seed(job.config.seed)
        self._model = self._make_model()
        self._ddp = DistributedDataParallel(self._model)
        self._optimizer = torch.optim.Adam(self._ddp.parameters(), lr=job.config.lr)
        self._loss = make_loss(multilabel=self._manifest.multilabel)
        self._recorder = Recorder(rank)
        self._uneven = _is_uneven(len(self._source))

    def run(self) -> None:
        """All epochs, the evaluations between and after them, and the report."""
        try:
            self._enter("training")
            for epoch in range(self._config.epochs):
                self._train_epoch(epoch)
                if self._evaluates_after(epoch):
                    self._evaluate(epoch)
            self._emit(Reported(report=self._report()))
        finally:
            self._source.close()
        self._enter("finished")

    def _train_epoch(self, epoch: int) -> None:
        self._ddp.train()  # type: ignore[no-untyped-call]
        self._recorder.start_epoch(epoch)
        with self._joined():
            for step in self._source.epoch():
                started = time.perf_counter()
                loss = self._train_step(step)
                compute = Seconds(compute=time.perf_counter() - started)
                self._recorder.step(rows=step.rows, seconds=step.seconds + compute, loss=loss)
                self._publish_window()
        metrics = self._recorder.finish_epoch()
        self._emit(EpochDone(rank=self._rank, metrics=metrics))

    def _train_step(self, step: Step) -> torch.Tensor:
        outputs = self._ddp(step.blocks, step.features)
        loss = self._loss(outputs, step.labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss

    def _publish_window(self) -> None:
        window = self._recorder.window(
            settings=self._source.settings,
            buffered_rows=self._source.num_buffered,
            waiting_batches=self._source.num_ready,
        )
        if window is None:
            return
        self._source.publish(window)
        self._emit(
            Progress(
                rank=self._rank,
                steps_in_epoch=len(self._source),
                step_in_epoch=self._recorder.step_in_epoch,
                window=window,
            )
        )

    def _evaluates_after(self, epoch: int) -> bool:
        every = self._config.eval_every
        return epoch == self._config.epochs - 1 or (every > 0 and (epoch + 1) % every == 0)

    def _evaluate(self, epoch: int) -> None:
        self._enter("evaluating")
        started = time.perf_counter()
        with self._source.paused():
            test_accuracy, val_accuracy, test_f1 = evaluate(
                self._graph,
                self._model,
                device=torch.device(self._config.device),
                feature_name=FEATURE,
                label_name=LABEL,
                multilabel=self._manifest.multilabel,
                num_classes=self._manifest.num_classes,
            )
        evaluation = Evaluation(
            epoch=epoch,
            test_accuracy=test_accuracy,
            val_accuracy=val_accuracy,
            test_f1=test_f1,
            seconds=time.perf_counter() - started,
        )
        if self._rank == 0:
            self._emit(Evaluated(evaluation=evaluation))
        self._enter("training")

    def _report(self) -> RankReport:
        return RankReport(
            rank=self._rank,
            host=f"host{self._rank // self._config.trainers_per_host}",
            epochs=tuple(self._recorder.epochs),
            memory=self._source.memory(),
            settings=self._source.settings,
        )

    def _make_model(self) -> BlockModel:
        config: RunConfig = self._config
        model = make_model(
            config.model,
            in_dim=self._manifest.feature_dim,
            hidden=config.hidden,
            num_classes=self._manifest.num_classes,
            num_layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
        )
        return model.to(config.device)

    def _joined(self) -> AbstractContextManager[Any]:
        return self._ddp.join() if self._uneven else nullcontext()

    def _enter(self, phase: Any) -> None:
        self._emit(PhaseEntered(role="trainer", rank=self._rank, phase=phase))


def _make_source(job: Job, rank: int, graph: Any) -> Source:
    seeds = dgl.distributed.node_split(
        graph.ndata["train_mask"], graph.get_partition_book(), force_even=True
    )
    if job.config.loader == "stock":
        return StockSource(graph, seeds, job.config)
    return RudderSource(graph, seeds, job.config, job.socket_of(rank))


def _is_uneven(num_steps: int) -> bool:
    """Whether ranks have unequal numbers of steps; asks all ranks."""
    lowest, highest = torch.tensor([num_steps]), torch.tensor([num_steps])
    distributed.all_reduce(lowest, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    return bool(lowest != highest)
