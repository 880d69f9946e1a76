"""One trainer: connects to the graph servers, trains, evaluates, and reports as it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import dgl
import torch
from pydantic import TypeAdapter
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rudder.training.checkpoint.format import Identity
from rudder.training.checkpoint.session import (
    Checkpoints,
    CheckpointState,
    copied,
    load_checkpoint,
    random_state,
    restore_random_state,
)
from rudder.training.config import RunConfig
from rudder.training.epoch_recorder import EpochRecorder, EpochsSoFar
from rudder.training.events import (
    BufferMade,
    CheckpointWritten,
    Emit,
    EpochDone,
    Evaluated,
    LossWentWrong,
    PhaseEntered,
    Progress,
    Reported,
    Stopped,
)
from rudder.training.job import Job
from rudder.training.loading.batch import Batch
from rudder.training.loading.state import LoaderState
from rudder.training.manifest import FEATURE
from rudder.training.metrics import (
    EpochMetrics,
    Evaluation,
    RankReport,
    Score,
    Window,
)
from rudder.training.model.aggregation import on_device
from rudder.training.model.models import ModelOptions, build_model
from rudder.training.model.optimisation import (
    EarlyStop,
    LossProblem,
    LossWatch,
    end_epoch,
    make_optimiser,
    make_schedule,
)
from rudder.training.model.own import MODEL_NAMES
from rudder.training.model.saved import ModelCard, SavedModels
from rudder.training.model.shard import Collectives
from rudder.training.model.task import make_task
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.sources import Source, make_source, seeds_of
from rudder.training.tensor_roles import name_roles
from rudder.training.warm_up import warm_up

_BEAT_SECONDS = 1.0
_EVALUATIONS = TypeAdapter(list[Evaluation])


class ProgressSignal:
    """Tells that work goes on, at most once in `_BEAT_SECONDS`."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._last = tell, time.monotonic()

    def beat(self) -> None:
        """A piece of work is done."""
        now = time.monotonic()
        if now - self._last > _BEAT_SECONDS:
            self._tell()
            self._last = now


class TrainingLoop:
    """One rank's model and optimiser, trained together with all other ranks'."""

    def __init__(
        self,
        config: RunConfig,
        graph: PartitionedGraph,
        dist_graph: Any,
        *,
        rank: int,
        num_steps: int,
        emit: Emit,
    ) -> None:
        """num_steps: this rank's steps of an epoch. All ranks make their loops at the same time."""
        self._rank, self._emit = rank, emit
        self.device = device_of_rank(config, rank)
        torch.manual_seed(config.seed)
        self.task = make_task(config, graph, dist_graph)
        self.model = build_model(
            config.model,
            in_dim=graph.feature_dim,
            num_classes=self.task.num_outputs,
            options=ModelOptions.of(config),
        ).to(self.device)
        is_own = config.model not in MODEL_NAMES
        self._ddp = DistributedDataParallel(self.model, find_unused_parameters=is_own)
        self.optimiser = make_optimiser(config, self.model)
        self.schedule = make_schedule(config, self.optimiser)
        self.early_stop = EarlyStop(config.early_stop)
        self._watch = LossWatch(config.on_nan)
        self._recorder = EpochRecorder()
        self._needs_rehearsal = False
        lowest, highest = _range_of(num_steps)
        self.common_steps, self._uneven = lowest, lowest != highest
        """Steps of an epoch that all ranks take."""

    @property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """What was measured of each epoch so far."""
        return tuple(self._recorder.epochs)

    @property
    def epoch(self) -> int:
        """The number of the present epoch, from 0."""
        return self._recorder.epoch

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
                if self._needs_rehearsal:
                    self._rehearse(batch)
                self._recorder.step(batch.accounts, loss=self._train_step(batch))
                if after_step(self.step_in_epoch):
                    return False
        metrics = self._recorder.finish_epoch()
        self._emit(EpochDone(rank=self._rank, metrics=metrics))
        return True

    def shared_state(self) -> CheckpointState:
        """What decides how training goes on; the same on all ranks."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "early_stop": self.early_stop.state_dict(),
        }

    def own_state(self) -> CheckpointState:
        """What this rank has measured, and where its generators stand."""
        so_far = self._recorder.so_far().model_dump_json()
        return {"epochs": so_far, "random": random_state()}

    def restore(self, *, shared: CheckpointState, own: CheckpointState) -> None:
        """Go on from there."""
        self.model.load_state_dict(shared["model"])
        self.optimiser.load_state_dict(shared["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(shared["schedule"])
        self.early_stop.load_state_dict(shared["early_stop"])
        self._recorder.resume(EpochsSoFar.model_validate_json(own["epochs"]))
        restore_random_state(own["random"])
        self._needs_rehearsal = True

    def _rehearse(self, batch: Batch) -> None:
        """Take a step without effect, the first one after a resume.

        DDP orders its gradients anew after its first step. A sum over more than two ranks depends
        on that order, so that the real steps need the one that the earlier run had.
        """
        self._needs_rehearsal = False
        generators, buffers = random_state(), copied(dict(self.model.named_buffers()))
        self._loss_of(batch).backward()  # type: ignore[no-untyped-call]
        self.optimiser.zero_grad()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        restore_random_state(generators)

    def warm_up(self, source: Source) -> None:
        """One pass without accounts."""
        self._ddp.train()  # type: ignore[no-untyped-call]
        with self._joined():
            for batch in source.batches():
                self._train_step(batch)

    def _train_step(self, batch: Batch) -> torch.Tensor | None:
        """The loss; None if the step was skipped, on all ranks, as gradients were not finite."""
        loss, problem = self._watch.look(self._loss_of(batch))
        if problem is not None:
            self._tell(problem)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not self._watch.takes(self.model, loss=loss, where=self._where):
            return None
        self.optimiser.step()
        return loss

    def _loss_of(self, batch: Batch) -> torch.Tensor:
        if self.device.type != "cpu":
            batch = replace(batch, blocks=[on_device(each, self.device) for each in batch.blocks])
        outputs = self._ddp(batch.blocks, batch.blocks[0].srcdata[FEATURE].float())
        return self.task.loss(outputs, batch)

    @property
    def _where(self) -> str:
        return f"at step {self.step_in_epoch + 1} of epoch {self._recorder.epoch + 1}"

    def _tell(self, problem: LossProblem) -> None:
        self._emit(
            LossWentWrong(
                rank=self._rank,
                epoch=self._recorder.epoch,
                step=self.step_in_epoch,
                loss=problem.loss,
                action=problem.action,
            )
        )

    def end_epoch(self, scores: tuple[Score, ...]) -> bool:
        """Set the learning rate of the next epoch; returns whether the run is to end here.

        scores: of an evaluation after this epoch, the same on all ranks; empty without one.
        """
        end_epoch(self.schedule, merit=scores[0].merit if scores else None)
        return bool(scores) and self.early_stop.note(scores[0])

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
        task=config.task,
        fanout=config.fanout,
        dataset=graph.dataset,
        data=identity.data,
        versions=identity.versions,
    )


def device_of_rank(config: RunConfig, rank: int) -> torch.device:
    """The CPU, or this rank's GPU; ranks share GPUs if there are fewer."""
    if config.device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", rank % torch.cuda.device_count())


def _range_of(num_steps: int) -> tuple[int, int]:
    """The lowest and the highest number of steps of any rank; asks all ranks."""
    lowest, highest = torch.tensor([num_steps]), torch.tensor([num_steps])
    distributed.all_reduce(lowest, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    return int(lowest), int(highest)


def run_trainer(job: Job, rank: int, emit: Emit) -> None:
    """Be trainer `rank` of a run, from connecting to the report."""
    graph = join_job(job, rank)
    emit(PhaseEntered(role="trainer", rank=rank, phase="connected"))
    Trainer(job, rank, graph, emit).run()
    leave()


def join_job(job: Job, rank: int) -> Any:
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
    """Part from the other trainers, once all have come this far; the process ends next.

    The process group is left as it is: to destroy it can hang for ever (torch 2.2), for that waits
    for gloo's threads and holds the interpreter's lock, which they need to drop their last tensors.
    """
    distributed.barrier()


def _meet(job: Job, rank: int) -> None:
    """Join the process group: over a file where hosts share the loopback, for torch's own store
    listens on every interface; over the first host's private network elsewhere. NCCL refuses ranks
    that share a GPU."""
    size = job.config.num_trainers
    on_gpus = job.config.device == "cuda" and torch.cuda.device_count() >= size
    backend = "nccl" if on_gpus else "gloo"
    where = f"file://{job.run_dir}/rendezvous" if job.network == "loopback" else "env://"
    distributed.init_process_group(backend, init_method=where, rank=rank, world_size=size)


class Trainer:
    """A run of epochs and evaluations."""

    def __init__(self, job: Job, rank: int, graph: Any, emit: Emit) -> None:
        self._config: RunConfig = job.config
        self._rank, self._graph, self._emit = rank, graph, emit
        self._host = job.host_of(rank)
        collectives = Collectives(torch.device(job.config.device))
        resumed = None if job.resume_from is None else load_checkpoint(job.resume_from, collectives)
        self._source: Source = make_source(
            graph,
            seeds_of(graph, job.config),
            job.config,
            control=job.socket_of(rank),
            controller=job.steering,
            folder=job.run_dir,
            trace=job.trace_of(rank),
            on_window=self._tell,
            resume_from=None if resumed is None else resumed.loader,
        )
        self._loop = TrainingLoop(
            job.config, job.graph, graph, rank=rank, num_steps=len(self._source), emit=emit
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
            collectives=collectives,
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
            self._alive = ProgressSignal(self._tell)
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
            scores = self._evaluate(epoch) if self._evaluates_after(epoch) else ()
            is_last = self._loop.end_epoch(scores) or epoch == self._config.epochs - 1
            if self._checkpoints.after_epoch(is_last=is_last):
                return False
            if is_last:
                break
        return True

    def _after_step(self, batch: int) -> bool:
        """Write a checkpoint if one is due, which no window counts; True: the run is to stop."""
        self._alive.beat()  # windows are of many steps, which may take minutes
        before = self._checkpoints.seconds
        is_stopped = self._checkpoints.after_step(batch)
        self._source.leave_out(self._checkpoints.seconds - before)
        return is_stopped

    def loader_state(self) -> LoaderState:
        """Where the loader stands."""
        return self._source.state()

    def shared_state(self) -> CheckpointState:
        """What is the same on all ranks."""
        return self._loop.shared_state()

    def own_state(self) -> CheckpointState:
        """What only this rank knows."""
        evaluations = _EVALUATIONS.dump_json(self._evaluations).decode()
        return {**self._loop.own_state(), "evaluations": evaluations}

    def _evaluates_after(self, epoch: int) -> bool:
        every = self._config.evaluation_interval
        return epoch == self._config.epochs - 1 or (every > 0 and (epoch + 1) % every == 0)

    def _evaluate(self, epoch: int) -> tuple[Score, ...]:
        self._enter("evaluating")
        alive = ProgressSignal(lambda: self._enter("evaluating"))
        started = time.perf_counter()
        with self._source.paused():
            self._loop.share_buffers()
            scores = self._loop.task.evaluate(
                self._graph,
                self._loop.model,
                device=self._loop.device,
                on_progress=alive.beat,
            )
        evaluation = Evaluation(epoch=epoch, scores=scores, seconds=time.perf_counter() - started)
        self._evaluations.append(evaluation)
        if self._rank == 0:
            error = self._models.keep(self._loop.model, evaluation)
            told = evaluation.model_copy(update={"model_error": error})
            self._emit(Evaluated(evaluation=told))
        self._enter("training")
        return scores

    def _report(self) -> RankReport:
        return RankReport(
            rank=self._rank,
            host=self._host,
            epochs=self._loop.epochs,
            memory=self._source.memory(),
            settings=self._source.settings,
            num_halo=self._source.num_halo,
            row_bytes=self._source.row_bytes,
            num_checkpoints=self._checkpoints.num_begun,
            checkpoint_seconds=self._checkpoints.seconds,
        )

    def _tell(self, window: Window | None = None) -> None:
        self._emit(
            Progress(
                rank=self._rank,
                epoch=self._loop.epoch,
                steps_in_epoch=len(self._source),
                step_in_epoch=self._loop.step_in_epoch,
                window=window,
            )
        )

    def _enter(self, phase: Any) -> None:
        self._emit(PhaseEntered(role="trainer", rank=self._rank, phase=phase))
