"""Simulated runs that explore: episodes to learn from, without a cluster."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rudder.agents.controller.report import ENDED, SteeringReport, write_report
from rudder.bench.simulated.access_traces import AccessTrace, ZipfStream
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

ROW_MS = (0.05, 0.1, 0.2, 0.4)
CAPACITY_SHARES = (0.02, 0.15, 0.5)
"""Of the remote nodes: from a poor buffer there is much to gain, from a good one little."""
LOOKAHEADS = (0, 16, 40)
STREAM = ZipfStream(num_remote=3000, draws=300)


@dataclass(frozen=True)
class Rehearsal:
    """One run; seed: of its draws and noise."""

    seed: int
    row_ms: float
    settings: BufferSettings
    stream: AccessTrace = STREAM

    def run(self, run_dir: Path, *, windows: int) -> Run:
        """Explore for so many windows, with a journal in `run_dir`."""
        trainer = SimulatedTrainer(
            self.stream, settings=self.settings, costs=Costs(row_ms=self.row_ms), seed=self.seed
        )
        trainer.workload = trainer.workload.model_copy(update={"run_key": f"{self.seed:032x}"})
        journal = SqliteJournal.open(run_file(run_dir, rank=0), memory=None)
        try:
            options = SteeringOptions(planner="collect", seed=self.seed)
            return asyncio.run(simulate(trainer, options=options, journal=journal, windows=windows))
        finally:
            journal.close()


def rehearsals(count: int, *, stream: AccessTrace = STREAM) -> Iterator[Rehearsal]:
    """Runs over all costs and starting settings, again and again with other draws."""
    starts = list(itertools.product(LOOKAHEADS, CAPACITY_SHARES))
    for seed in range(count):
        ahead, share = starts[seed % len(starts)]
        rows = int(share * stream.num_remote)
        settings = BufferSettings(capacity_rows=rows, lookahead_batches=ahead)
        yield Rehearsal(seed, ROW_MS[seed % len(ROW_MS)], settings, stream)


def rehearse(folder: Path, *, runs: int, windows: int = 40, stream: AccessTrace = STREAM) -> Path:
    """Make a memory of so many runs, `folder/memory.db`, and their folders beside it."""
    memory = folder / "memory.db"
    for number, rehearsal in enumerate(rehearsals(runs, stream=stream)):
        run_dir = folder / f"run{number}"
        rehearsal.run(run_dir, windows=windows)
        fill(memory, run_dir)
    return memory


def record_sample(run_dir: Path, *, windows: int) -> list[Path]:
    """Steer two simulated trainers, and leave their record as a run does; returns its files.

    The agents are those of a run, and so are their decisions, which can be replayed.
    """
    run_key, paths = uuid.uuid4().hex, [run_file(run_dir, rank=rank) for rank in range(2)]
    for rank, path in enumerate(paths):
        trainer = SimulatedTrainer(
            replace(STREAM, seed=rank),
            settings=BufferSettings(capacity_rows=60, lookahead_batches=16),
            costs=Costs(row_ms=ROW_MS[1]),
            max_buffer_rows=STREAM.num_remote // 2,  # with all rows nothing more would be decided
            rank=rank,
            world_size=2,
            seed=rank,
        )
        trainer.workload = trainer.workload.model_copy(update={"run_key": run_key})
        with closing(SqliteJournal.open(path, memory=None)) as journal:
            run_simulated(simulate(trainer, journal=journal, windows=windows))
        write_report(SteeringReport(rank=rank, planner="embedded", phase=ENDED), run_dir)
    return paths
