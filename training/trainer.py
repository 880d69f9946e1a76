"""One trainer: connects to the graph servers, trains, evaluates, and reports as it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dgl
import torch
from pydantic import TypeAdapter
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rudder.training.checkpoint.format import Identity
from rudder.training.checkpoint.session import (
    Checkpoints,
    State,
    load_checkpoint,
    random_state,
    restore_random_state,
)
from rudder.training.config import RunConfig
from rudder.training.events import (
    BufferMade,
    CheckpointWritten,
    Emit,
    EpochDone,
    Evaluated,
    PhaseEntered,
    Progress,
    Reported,
    Stopped,
)
from rudder.training.job import Job
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.loading.state import LoaderState
from rudder.training.manifest import FEATURE
from rudder.training.metrics import EpochMetrics, Evaluation, RankReport, RowCounts, Seconds, Window
from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.own import MODEL_NAMES
from rudder.training.model.saved import ModelCard, SavedModels
from rudder.training.model.shard import Exchange
from rudder.training.model.task import make_task
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.settings import Frozen
from rudder.training.sources import Source, make_source, seeds_of
from rudder.training.tensor_roles import name_roles
from rudder.training.warm_up import warm_up

_BEAT_SECONDS = 1.0
_EVALUATIONS = TypeAdapter(list[Evaluation])


class EpochsSoFar(Frozen):
    """One rank's epochs at a checkpoint: those that are over, and the sums of the one under way."""

    epochs: tuple[EpochMetrics, ...]
    num_steps: int
    rows: RowCounts
    seconds: Seconds
    step_seconds: tuple[float, ...]
    loss: float
    elapsed_seconds: float


class EpochRecorder:
    """One rank's epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochMetrics] = []
        self._resumed: EpochsSoFar | None = None
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
        earlier, self._resumed = self._resumed, None
        if earlier is not None:
            self._started -= earlier.elapsed_seconds
            self._num_steps, self._rows = earlier.num_steps, earlier.rows
            self._seconds = earlier.seconds
            self._step_seconds = list(earlier.step_seconds)
            self._loss = torch.tensor(earlier.loss)

    def resume(self, earlier: EpochsSoFar) -> None:
        """The next epoch that begins is one of which so much is done."""
        self.epochs, self._resumed = list(earlier.epochs), earlier

    def so_far(self) -> EpochsSoFar:
        """What `resume` needs."""
        opened = self._open or StepAccounts(RowCounts(), Seconds())
        return EpochsSoFar(
            epochs=tuple(self.epochs),
            num_steps=self._num_steps,
            rows=self._rows + opened.rows,
            seconds=self._seconds + opened.seconds,
            step_seconds=tuple(self._step_seconds),
            loss=float(self._loss),
            elapsed_seconds=time.perf_counter() - self._started,
        )

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
        self.start_epoch(self._epoch + 1)
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
        lowest, highest = _range_of(num_steps)
        self.common_steps, self._uneven = lowest, lowest != highest
        """Steps of an epoch that all ranks take."""

    @property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """What was measured of each epoch so far."""
        return tuple(self._recorder.epochs)

    @property
    def step_in_epoch(self) -> int:
        """Steps done in this epoch."""
        return self._recorder.step_in_epoch

    def train_epoch(
        self, epoch: int, source: Source, *, after_step: Callable[[int], bool] = lambda _: False
    ) -> bool:
        """One pass over a source's batches; emits EpochDone.

        after_step: told how many steps of the epoch are done, on all ranks alike; where it returns
        True the epoch ends there. Returns whether it was not ended so.
        """
        self._ddp.train()  # type: ignore[no-untyped-call]
        self._recorder.start_epoch(epoch)
        with self._joined():
            for batch in source.batches():
                self._recorder.step(batch.accounts, loss=self._train_step(batch))
                if after_step(self.step_in_epoch):
                    return False
        metrics = self._recorder.finish_epoch()
        self._emit(EpochDone(rank=self._rank, metrics=metrics))
        return True

    def shared_state(self) -> State:
        """What decides how training goes on; the same on all ranks."""
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def own_state(self) -> State:
        """What this rank has measured, and where its generators stand."""
        so_far = self._recorder.so_far().model_dump_json()
        return {"epochs": so_far, "random": random_state()}

    def restore(self, *, shared: State, own: State) -> None:
        """Go on from there."""
        self.model.load_state_dict(shared["model"])
        self._optimizer.load_state_dict(shared["optimizer"])
        self._recorder.resume(EpochsSoFar.model_validate_json(own["epochs"]))
        restore_random_state(own["random"])

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


def _card_of(
    config: RunConfig, graph: PartitionedGraph, identity: Identity, *, num_outputs: int
) -> ModelCard:
    """What is written beside the model's weights."""
    return ModelCard(
        model=config.model,
        in_dim=graph.feature_dim,
        num_outputs=num_outputs,
        options=ModelOptions.of(config),
        multilabel=graph.multilabel,
        fanout=config.fanout,
        dataset=graph.dataset,
        data=identity.data,
        versions=identity.versions,
    )


def _range_of(num_steps: int) -> tuple[int, int]:
    """The lowest and the highest number of steps of any rank; asks all ranks."""
    lowest, highest = torch.tensor([num_steps]), torch.tensor([num_steps])
    distributed.all_reduce(lowest, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    return int(lowest), int(highest)


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
        exchange = Exchange(torch.device(job.config.device))
        resumed = None if job.resume_from is None else load_checkpoint(job.resume_from, exchange)
        self._source: Source = make_source(
            graph,
            seeds_of(graph),
            job.config,
            control=job.socket_of(rank),
            controller=job.steering,
            folder=job.run_dir,
            trace=job.trace_of(rank),
            on_window=self._tell,
            resume_from=None if resumed is None else resumed.loader,
        )
        self._loop = TrainingLoop(
            job.config, job.graph, rank=rank, num_steps=len(self._source), emit=emit
        )
        self._evaluations: list[Evaluation] = []
        if resumed is not None:
            self._loop.restore(shared=resumed.shared, own=resumed.own)
            self._evaluations = _EVALUATIONS.validate_json(resumed.own["evaluations"])
        identity = Identity.of(job.config, job.graph)
        num_outputs = self._loop.task.num_outputs
        card = _card_of(job.config, job.graph, identity, num_outputs=num_outputs)
        self._models = SavedModels(job.run_dir, card, earlier=self._evaluations)
        self._checkpoints = Checkpoints(
            self,
            run_dir=job.run_dir,
            interval=job.config.checkpoint_every,
            keep=job.config.keep_checkpoints,
            identity=identity,
            exchange=exchange,
            common_steps=self._loop.common_steps if self._source.resumes_within_epochs else 0,
            on_written=lambda written: emit(CheckpointWritten(written=written)),
        )

    def run(self) -> None:
        """All epochs, the evaluations between and after them, and the report."""
        try:
            if self._config.loader == "rudder":
                self._emit(BufferMade(rank=self._rank, memory=self._source.memory()))
            if self._rank == 0:
                for evaluation in self._evaluations:
                    self._emit(Evaluated(evaluation=evaluation))
            self._enter("training")
            is_over = self._train()
            written = self._checkpoints.finish()
            if is_over:
                self._emit(Reported(report=self._report()))
            else:
                self._emit(Stopped(rank=self._rank, written=written))
        finally:
            self._source.close()
        self._enter("finished")

    def _train(self) -> bool:
        """The epochs that are left; False where the run was told to stop."""
        begun = self._source.state()
        for epoch in range(begun.epoch, self._config.epochs):
            self._checkpoints.begin_epoch(begun.batch if epoch == begun.epoch else 0)
            if not self._loop.train_epoch(epoch, self._source, after_step=self._after_step):
                return False
            if self._evaluates_after(epoch):
                self._evaluate(epoch)
            if self._checkpoints.after_epoch(is_last=epoch == self._config.epochs - 1):
                return False
        return True

    def _after_step(self, batch: int) -> bool:
        """Write a checkpoint if one is due, which no window counts; True: the run is to stop."""
        before = self._checkpoints.seconds
        is_stopped = self._checkpoints.after_step(batch)
        self._source.leave_out(self._checkpoints.seconds - before)
        return is_stopped

    def loader_state(self) -> LoaderState:
        """Where the loader stands."""
        return self._source.state()

    def shared_state(self) -> State:
        """What is the same on all ranks."""
        return self._loop.shared_state()

    def own_state(self) -> State:
        """What only this rank knows."""
        evaluations = _EVALUATIONS.dump_json(self._evaluations).decode()
        return {**self._loop.own_state(), "evaluations": evaluations}

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
        self._evaluations.append(evaluation)
        if self._rank == 0:
            self._models.keep(self._loop.model, evaluation)
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
            num_checkpoints=self._checkpoints.num_begun,
            checkpoint_seconds=self._checkpoints.seconds,
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
