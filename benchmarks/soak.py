"""Whether a controller grows: 100,000 decisions, and 12 hours of training or more, simulated.

    python -m benchmarks.soak                                   an hour of a core
    python -m benchmarks.soak --decisions 2000 --hours 0.2

A controller's session, with its record, steers a simulated trainer whose link changes every few
windows, and whose buffer may hold a fifth of the rows, so that something can always be gained.
Prints ten lines: decisions, hours, resident memory, open descriptors, files of the run,
milliseconds of processor time and bytes of the record a decision. Exits 1 if memory, descriptors
or files have grown by more than 5 % since the second line; the first has what is made once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.shared import run_study
from rudder.agents.controller.report import read_report
from rudder.agents.controller.session import ControllerSession
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.run.run_reader import run_file
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

_GAUGED = ("rss_mib", "descriptors", "files")
_MOST_GROWTH = 1.05
_LINKS = (Costs(row_ms=16.0, compute_ms=160.0), Costs(row_ms=1.6, compute_ms=40.0))
_WINDOWS_A_LINK = 8
_MAX_ROWS = 100
"""Of 500 that are used: a buffer for all of them would leave nothing to decide."""


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Ten times, how large everything is."""
    (folder / "control").mkdir()
    settings = BufferSettings(capacity_rows=50, lookahead_batches=16)
    stream = ZipfStream(num_remote=500, draws=50)
    trainer = SimulatedTrainer(
        stream, settings=settings, costs=_LINKS[0], steps=10**7, max_buffer_rows=_MAX_ROWS
    )
    sizes: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        session = ControllerSession(
            trainer.workload,
            sender=trainer,
            options=SteeringOptions(planner=options.planner, trial_windows=1),
            folder=folder,
            socket=folder / "control" / "rank0.sock",
            process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        )
        runner.run(session.begin())
        for tenth in range(1, 11):
            due = (tenth * options.decisions / 10, tenth * options.hours * 360)
            runner.run(_steer(session, trainer, folder, due=due))
            sizes.append(_size(trainer, folder))
            first = sizes[min(1, len(sizes) - 1)]
            grown = [name for name in _GAUGED if sizes[-1][name] > _MOST_GROWTH * first[name]]
            yield {**sizes[-1], "grown": grown}
        runner.run(session.close())


async def _steer(
    session: ControllerSession, trainer: SimulatedTrainer, folder: Path, *, due: tuple[float, float]
) -> None:
    """Until so many decisions are made and so many seconds are over."""
    while _decisions(folder) < due[0] or trainer.seconds < due[1]:
        for costs in _LINKS:
            trainer.costs = costs
            for _ in range(_WINDOWS_A_LINK):
                await session.take(trainer.window())


def _decisions(folder: Path) -> int:
    report = read_report(folder, 0)
    return 0 if report is None else report.counts.decisions


def _size(trainer: SimulatedTrainer, folder: Path) -> dict[str, Any]:
    gc.collect()
    decisions, process = max(_decisions(folder), 1), psutil.Process()
    return {
        "decisions": decisions,
        "hours": round(trainer.seconds / 3600, 2),
        "rss_mib": round(process.memory_info().rss / 2**20, 1),
        "descriptors": process.num_fds(),
        "files": sum(len(names) for _, _, names in os.walk(folder)),
        "cpu_ms_a_decision": round(1000 * time.process_time() / decisions, 1),
        "record_bytes_a_decision": run_file(folder, rank=0).stat().st_size // decisions,
    }


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: not line["grown"],
        decisions=100_000, hours=12.0, planner="embedded",
    )  # fmt: skip
