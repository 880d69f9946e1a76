"""One trainer of a benchmark, in which all variants take turns as the plan says."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import distributed

from rudder.bench.floor import FloorSource
from rudder.bench.plan import Turn, place_of, plan_of
from rudder.bench.variants import FLOOR, Variant
from rudder.training.events import Emit, PhaseEntered, Reported
from rudder.training.job import Job
from rudder.training.metrics import RankReport
from rudder.training.sources import Source, make_source, seeds_of
from rudder.training.trainer import TrainingLoop, join_job, leave

_WARM_UP_BATCHES = 3


def run_bench(job: Job, rank: int, emit: Emit) -> None:
    """Be trainer `rank` of a benchmark, from connecting to the report."""
    graph = join_job(job, rank)
    emit(PhaseEntered(role="trainer", rank=rank, phase="connected"))
    Bench(job, rank, graph, emit).run()
    leave()


class Bench:
    """Trains the same model with one variant's loader at a time.

    All ranks start an epoch together. A variant has no request under way outside its turns.
    """

    def __init__(self, job: Job, rank: int, graph: Any, emit: Emit) -> None:
        self._job, self._plan, self._rank, self._emit = job, plan_of(job), rank, emit
        self._graph, self._seeds = graph, seeds_of(graph, job.config)
        num_steps = -(-len(self._seeds) // job.config.batch_size)
        self._loop = TrainingLoop(
            job.config, job.graph, graph, rank=rank, num_steps=num_steps, emit=emit
        )
        self._stack = ExitStack()
        self._sources: dict[Variant, Source] = {}

    def run(self) -> None:
        """Take all turns, and report."""
        with self._stack:
            self._emit(PhaseEntered(role="trainer", rank=self._rank, phase="training"))
            self._warm_up()
            for variant in self._plan.variants:
                self._add_source(variant)
            for turn in self._plan.turns:
                self._take(turn)
            self._emit(Reported(report=self._report()))
        self._emit(PhaseEntered(role="trainer", rank=self._rank, phase="finished"))

    def _take(self, turn: Turn) -> None:
        source = self._sources[turn.variant]
        source.expect(turn.num_epochs)
        for epoch in turn.epochs:
            distributed.barrier()
            self._loop.train_epoch(epoch, source)
        distributed.barrier()

    def _warm_up(self) -> None:
        """Train some steps, so that no variant pays for what happens only once in a process."""
        few = self._seeds[: _WARM_UP_BATCHES * self._job.config.batch_size]
        config = self._job.config.model_copy(update={"loader": "rudder", "policy": "none"})
        source = make_source(self._graph, few, config, control=None)
        source.expect(1)
        self._loop.warm_up(source)
        source.close()

    def _add_source(self, variant: Variant) -> None:
        """Make a variant's loader before the first turn, to give its controller time to start."""
        source = self._make_source(variant)
        self._stack.callback(source.close)
        self._sources[variant] = source

    def _make_source(self, variant: Variant) -> Source:
        place = place_of(self._job, variant, rank=self._rank)
        if variant.name == FLOOR:
            return FloorSource(self._graph, self._seeds, place.config)
        return make_source(
            self._graph,
            self._seeds,
            place.config,
            control=place.socket,
            controller=place.steering,
            folder=place.folder,
        )

    def _report(self) -> RankReport:
        memories = [source.memory() for source in self._sources.values()]
        return RankReport(
            rank=self._rank,
            host=self._job.host_of(self._rank),
            epochs=self._loop.epochs,
            memory=max(memories, key=lambda memory: memory.peak_rss_bytes),
        )
