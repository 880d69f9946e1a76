"""How near estimates of growing buffers come, on recorded accesses: no machine's speed counts.

    rudder train --record-trace --controller none --run-dir runs/recorded --epochs 12
    python -m benchmarks.growths runs/recorded

Each rank's batches are trained on again by the simulated trainer. After so many steps its buffer,
until then a quarter of the halo, becomes twice or four times as large, or large enough for all
rows; what then comes is judged as the trial of a run judges it. A line for each trace and for all:
errors within 5 % ((measured - expected) / expected rows fetched), the median and worst size, and
milliseconds of processor time of an estimate.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared import run_study
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.trial import Trial
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.tools.constants import APPLIED_AFTER_STEPS, WINDOW_STEPS
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings, Change
from rudder.training.simulate.recording import Recording, find_traces, read_recording

STEPS = (48, 64, 96, 128, 192, 256, 384)
FACTORS = (2, 4, 1000)
LOOKAHEAD_BATCHES = 40


@dataclass(frozen=True)
class Recorded:
    """The batches of one rank as a stream of accesses."""

    recording: Recording

    @property
    def num_remote(self) -> int:
        """Nodes of other partitions."""
        return self.recording.header.num_remote

    def batch(self, number: int) -> IntArray:
        """int64[n]: past the end of the recording, its first batches again."""
        happened = self.recording.happened
        return self.recording.batch(int(happened[number % len(happened)]))


@dataclass(frozen=True)
class Found:
    """error: of one estimate; ms: processor time that it took."""

    error: float
    ms: float


async def grow(stream: Recorded, *, steps: int, factor: int) -> Found | None:
    """Train for so many steps, estimate, grow, and train on to the end of the trial; None where
    the recording ends before."""
    header = stream.recording.header
    before = BufferSettings(
        capacity_rows=len(stream.recording.halo) // 4, lookahead_batches=LOOKAHEAD_BATCHES
    )
    trainer = SimulatedTrainer(stream, settings=before)
    workload = trainer.workload.model_copy(
        update={"batches_per_epoch": header.batches_per_epoch, "epochs": 1000}
    )
    history = History(workload)
    whatif = WhatIf(history)
    toolbox = Toolbox(
        history, Limits.of(workload, memory_budget_bytes=None), whatif, lambda limit: ()
    )
    while history.next_step < steps:
        history.add(trainer.window())
    observation = await EmbeddedObserver(estimates=False).observe(toolbox)
    change = Change(capacity_rows=min(factor * before.capacity_rows, stream.num_remote))
    began = time.process_time()
    expected = whatif.effect(change)
    took = time.process_time() - began
    for _ in range(APPLIED_AFTER_STEPS):
        trainer.step()
    applied = await trainer.send(change, issued_at_step=steps)
    course = whatif.course(change, applied_step=applied.step)
    trial = Trial(change, applied=applied, before=observation, expected=expected, course=course)
    for _ in range(WINDOW_STEPS - APPLIED_AFTER_STEPS):
        trainer.step()
    window = trainer.end_window()
    while window.first_step + WINDOW_STEPS < len(stream.recording.happened):
        if (outcome := trial.feed(window)) is not None:
            error = outcome.rows_error
            return None if error is None else Found(error, 1000 * took)
        window = trainer.window()
    return None


def summary(name: str, found: list[Found]) -> dict[str, Any]:
    """The line of some estimates."""
    sizes = [abs(each.error) for each in found]
    return {
        "trace": name,
        "growths": len(found),
        "within": round(sum(size <= 0.05 for size in sizes) / max(len(sizes), 1), 3),
        "median": round(statistics.median(sizes), 4) if sizes else None,
        "worst": round(max(sizes), 4) if sizes else None,
        "mean": round(statistics.fmean(each.error for each in found), 4) if sizes else None,
        "ms": round(statistics.median(each.ms for each in found), 1) if sizes else None,
    }


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """All traces, then all together."""
    everything: list[Found] = []
    for file in find_traces(options.runs):
        stream = Recorded(read_recording(file))
        tried = [
            asyncio.run(grow(stream, steps=steps, factor=factor))
            for steps, factor in itertools.product(STEPS, FACTORS)
        ]
        found = [each for each in tried if each is not None]
        yield summary(f"{file.parents[1].name} {file.stem}", found)
        everything += found
    yield summary("all", everything)


if __name__ == "__main__":
    run_study(__doc__, measure, positional=("runs", "+"))
