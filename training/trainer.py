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
    BufferMade,
    Emit,
    EpochDone,
    Evaluated,
    PhaseEntered,
    Progress,
    Reported,
)
from rudder.training.job import Job
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.manifest import FEATURE
from rudder.training.metrics import EpochMetrics, Evaluation, RankReport, RowCounts, Seconds, Window
from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.own import MODEL_NAMES
from rudder.training.model.task import make_task
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.sources import Source, make_source, seeds_of
from rudder.training.tensor_roles import name_roles
from rudder.training.warm_up import warm_up

_BEAT_SECONDS = 1.0


class EpochRecorder:
    """One rank's epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochMetrics] = []
        self.start_epoch(0)

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._num_steps

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins now."""
        self._epoch, self._started = epoch, time.perf_counter()
        self._num_steps = 0
        self._rows, self._seconds = RowCounts(), Seconds()
        self._step_seconds: list[float] = []
        self._open: StepAccounts | None = None
        self._loss = torch.zeros(())

    def step(self, accounts: StepAccounts, *, loss: torch.Tensor) -> None:
        """A step is done; loss: scalar, kept as a tensor so that nothing waits for it.

        Its accounts are complete, and added, once the next step is done or the epoch is over.
        """
        self._add_open()
        self._open = accounts
        self._num_steps += 1
        self._loss = loss.detach() + self._loss.to(loss.device)

    def finish_epoch(self) -> EpochMetrics:
        """The epoch's sums."""
        self._add_open()
        ordered = sorted(self._step_seconds)
        metrics = EpochMetrics(
            epoch=self._epoch,
            num_steps=self._num_steps,
            seconds_total=time.perf_counter() - self._started,
            seconds=self._seconds,
            rows=self._rows,
            loss=float(self._loss) / self._num_steps if ordered else None,
            step_seconds_p99=ordered[int(0.99 * len(ordered))] if ordered else None,
        )
        self.epochs.append(metrics)
        return metrics

    def _add_open(self) -> None:
        done, self._open = self._open, None
        if done is not None:
            self._rows += done.rows
            self._seconds += done.seconds
            self._step_seconds.append(done.seconds.exposed_wait + done.seconds.compute)


class Heartbeat:
    """Tells that work goes on, at most once in `_BEAT_SECONDS`."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._tell()
        self._last = time.monotonic()

    def beat(self) -> None:
        """A piece of work is done."""
        now = time.monotonic()
        if now - self._last > _BEAT_SECONDS:
            self._tell()
            self._last = now


class TrainingLoop:
    """One rank's model and optimiser, trained together with all other ranks'."""

    def __init__(
        self, config: RunConfig, graph: PartitionedGraph, *, rank: int, num_steps: int, emit: Emit
    ) -> None:
        """num_steps: this rank's steps of an epoch. All ranks make their loops at the same time."""
        self._rank, self._emit = rank, emit
        self._device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.task = make_task(graph)
        self.model = build_model(
            config.model,
            in_dim=graph.feature_dim,
            num_classes=self.task.num_outputs,
            options=ModelOptions.of(config),
        ).to(self._device)
        is_own = config.model not in MODEL_NAMES
        self._ddp = DistributedDataParallel(self.model, find_unused_parameters=is_own)
        self._optimizer = torch.optim.Adam(self._ddp.parameters(), lr=config.lr)
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
        """One pass over a source's batches; emits EpochDone."""
        self._ddp.train()  # type: ignore[no-untyped-call]
        self._recorder.start_epoch(epoch)
        with self._joined():
            for batch in source.batches():
                self._recorder.step(batch.accounts, loss=self._train_step(batch))
        metrics = self._recorder.finish_epoch()
        self._emit(EpochDone(rank=self._rank, metrics=metrics))

    def warm_up(self, source: Source) -> None:
        """One pass without accounts."""
        self._ddp.train()  # type: ignore[no-untyped-call]
        with self._joined():
            for batch in source.batches():
                self._train_step(batch)

    def _train_step(self, batch: Batch) -> torch.Tensor:
        outputs = self._ddp(batch.blocks, batch.blocks[0].srcdata[FEATURE].float())
        loss = self.task.loss(outputs, batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss

    def share_buffers(self) -> None:
        """Give all ranks rank 0's buffers, such as the running means of a batch norm."""
        for buffer in self.model.buffers():
            distributed.broadcast(buffer, 0)

    def _joined(self) -> AbstractContextManager[Any]:
        return self._ddp.join() if self._uneven else nullcontext()


def _is_uneven(num_steps: int) -> bool:
    """Whether ranks have unequal numbers of steps; asks all ranks."""
    lowest, highest = torch.tensor([num_steps]), torch.tensor([num_steps])
    distributed.all_reduce(lowest, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    return bool(lowest != highest)


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
    graph = dgl.distributed.DistGraph(job.graph_name, part_config=str(job.part_config))
    name_roles(graph, job.graph)
    return graph


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
            job.config, job.graph, rank=rank, num_steps=len(self._source), emit=emit
        )

    def run(self) -> None:
        """All epochs, the evaluations between and after them, and the report."""
        try:
            if self._config.loader == "rudder":
                self._emit(BufferMade(rank=self._rank, memory=self._source.memory()))
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
        alive = Heartbeat(lambda: self._enter("evaluating"))
        started = time.perf_counter()
        with self._source.paused():
            self._loop.share_buffers()
            scores = self._loop.task.evaluate(
                self._graph,
                self._loop.model,
                device=torch.device(self._config.device),
                on_progress=alive.beat,
            )
        evaluation = Evaluation(epoch=epoch, scores=scores, seconds=time.perf_counter() - started)
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
