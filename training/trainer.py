"""One trainer: connects to the graph servers, trains, evaluates, and reports as it goes."""

from __future__ import annotations

import threading
import time
from typing import Any

import dgl
import torch
from torch import distributed

from rudder.training.config import RunConfig
from rudder.training.events import Emit, Evaluated, PhaseEntered, Progress, Reported
from rudder.training.job import Job
from rudder.training.manifest import Manifest
from rudder.training.metrics import Evaluation, RankReport, Window
from rudder.training.model.inference import evaluate
from rudder.training.sources import FEATURE, LABEL, Source, make_source, seeds_of
from rudder.training.training_loop import TrainingLoop
from rudder.training.warm_up import warm_up


def run_trainer(job: Job, rank: int, emit: Emit) -> None:
    """Be trainer `rank` of a run, from connecting to the report."""
    graph = connect(job, rank)
    emit(PhaseEntered(role="trainer", rank=rank, phase="connected"))
    Trainer(job, rank, graph, emit).run()
    leave()


def connect(job: Job, rank: int) -> Any:
    """Join servers and trainers of the job; returns the DistGraph."""
    kernels = threading.Thread(target=warm_up)
    kernels.start()
    dgl.distributed.initialize(str(job.ip_config))
    _meet(job, rank)
    kernels.join()
    return dgl.distributed.DistGraph(job.graph_name, part_config=str(job.part_config))


def leave() -> None:
    """Part from the other trainers, once all have come this far."""
    distributed.barrier()
    distributed.destroy_process_group()


def _meet(job: Job, rank: int) -> None:
    """Join the process group: over a file where hosts share the loopback, for torch's own store
    listens on every interface; over the first host's private network elsewhere."""
    backend = "nccl" if job.config.device == "cuda" else "gloo"
    where = "env://" if job.network == "namespace" else f"file://{job.run_dir}/rendezvous"
    size = job.config.num_trainers
    distributed.init_process_group(backend, init_method=where, rank=rank, world_size=size)


class Trainer:
    """A run of epochs and evaluations."""

    def __init__(self, job: Job, rank: int, graph: Any, emit: Emit) -> None:
        self._config: RunConfig = job.config
        self._rank, self._graph, self._emit = rank, graph, emit
        self._manifest = Manifest.read(job.data_dir)
        self._source: Source = make_source(
            graph,
            seeds_of(graph),
            job.config,
            control=job.socket_of(rank),
            controller=job.steering,
            folder=job.run_dir,
            trace=job.trace_of(rank),
            on_window=self._tell,
        )
        self._loop = TrainingLoop(
            job.config, self._manifest, rank=rank, num_steps=len(self._source), emit=emit
        )

    def run(self) -> None:
        """All epochs, the evaluations between and after them, and the report."""
        try:
            self._enter("training")
            for epoch in range(self._config.epochs):
                self._loop.train_epoch(epoch, self._source)
                if self._evaluates_after(epoch):
                    self._evaluate(epoch)
            self._emit(Reported(report=self._report()))
        finally:
            self._source.close()
        self._enter("finished")

    def _evaluates_after(self, epoch: int) -> bool:
        every = self._config.eval_every
        return epoch == self._config.epochs - 1 or (every > 0 and (epoch + 1) % every == 0)

    def _evaluate(self, epoch: int) -> None:
        self._enter("evaluating")
        started = time.perf_counter()
        with self._source.paused():
            test_accuracy, val_accuracy, test_f1 = evaluate(
                self._graph,
                self._loop.model,
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
            epochs=self._loop.epochs,
            memory=self._source.memory(),
            settings=self._source.settings,
            num_halo=self._source.num_halo,
            row_bytes=self._source.row_bytes,
        )

    def _tell(self, window: Window) -> None:
        self._emit(
            Progress(
                rank=self._rank,
                steps_in_epoch=len(self._source),
                step_in_epoch=self._loop.step_in_epoch,
                window=window,
            )
        )

    def _enter(self, phase: Any) -> None:
        self._emit(PhaseEntered(role="trainer", rank=self._rank, phase=phase))
