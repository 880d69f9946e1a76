"""Whether a controller grows: 100,000 decisions, and 12 hours of training or more, simulated.

    python -m benchmarks.soak                                   half an hour of a core
    python -m benchmarks.soak --decisions 2000 --hours 0.2

A controller's session, with its record and a memory of earlier runs, steers a simulated trainer
whose link changes every few windows, and whose buffer may hold a fifth of the rows, so that
something can always be gained. Prints a line each so many decisions: resident memory, objects that
Python's collector knows, open descriptors, threads, files, and, since the line before, milliseconds
of processor time and bytes of the record a decision. The last line says whether the record holds.
Exits 1 if it does not, or if anything but the milliseconds has grown by more than 5 % since the
second line: the first has what is made once.
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
from rudder.bench.simulated.access_traces import AccessTrace, IntArray, ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.past.transfer import fill
from rudder.memory.run.verify_run import verify_run
from rudder.memory.sample import write_sample_run
from rudder.tools.cpu_budget import CpuBudget, ProcessShare
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

_GAUGED = ("rss_mib", "objects", "descriptors", "threads", "files", "record_bytes_a_decision")
_MOST_GROWTH = 1.05
_LINKS = (Costs(row_ms=16.0, compute_ms=160.0), Costs(row_ms=1.6, compute_ms=40.0))
_WINDOWS_A_LINK = 8
_MAX_ROWS = 100
"""Of 500 that are used: a buffer for all of them would leave nothing to decide."""


class _Repeated:
    """The first 4,096 batches of a trace, again and again, so that they are drawn only once."""

    def __init__(self, trace: AccessTrace) -> None:
        self.num_remote = trace.num_remote
        self._batches = [trace.batch(number) for number in range(4096)]

    def batch(self, number: int) -> IntArray:
        """int64[n], distinct."""
        return self._batches[number % len(self._batches)]


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """How large everything is, so many times, and whether the record holds."""
    run, memory = folder / "run", folder / "memory.db"
    (run / "control").mkdir(parents=True)
    write_sample_run(folder / "earlier")
    fill(memory, folder / "earlier")
    trainer = SimulatedTrainer(
        _Repeated(ZipfStream(num_remote=500, draws=50)),
        settings=BufferSettings(capacity_rows=50, lookahead_batches=16),
        costs=_LINKS[0], steps=10**7, max_buffer_rows=_MAX_ROWS,
    )  # fmt: skip
    with asyncio.Runner() as runner:
        session = ControllerSession(
            trainer.workload,
            sender=trainer,
            options=SteeringOptions(planner=options.planner, trial_windows=1, memory=memory),
            folder=run,
            socket=run / "control" / "rank0.sock",
            process=ProcessShare(CpuBudget(fraction=1000, calm_fraction=1000)),
        )
        runner.run(session.begin())
        sizes = [_size(trainer, run, None)]
        for line in range(1, options.lines + 1):
            share = line / options.lines
            due = (share * options.decisions, share * options.hours * 3600)
            runner.run(_steer(session, trainer, run, due=due))
            sizes.append(_size(trainer, run, sizes[-1]))
            first = sizes[min(2, line)]
            grown = [name for name in _GAUGED if sizes[-1][name] > _MOST_GROWTH * first[name]]
            yield {**sizes[-1], "grown": grown}
        runner.run(session.close())
    (found,) = verify_run(run)
    yield {"verified_rows": found.found.rows, "grown": [] if found.found.holds else ["faults"]}


async def _steer(
    session: ControllerSession, trainer: SimulatedTrainer, run: Path, *, due: tuple[float, float]
) -> None:
    """Until so many decisions are made and so many seconds are over."""
    while _decisions(run) < due[0] or trainer.seconds < due[1]:
        for costs in _LINKS:
            trainer.costs = costs
            for _ in range(_WINDOWS_A_LINK):
                await session.take(trainer.window())


def _decisions(run: Path) -> int:
    report = read_report(run, 0)
    return 0 if report is None else report.counts.decisions


def _size(trainer: SimulatedTrainer, run: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    gc.collect()
    files = [Path(folder) / name for folder, _, names in os.walk(run) for name in names]
    process, cpu_s, record_bytes = psutil.Process(), time.process_time(), _bytes_of(files)
    decisions = _decisions(run)
    since = before or {"decisions": 0, "cpu_s": cpu_s, "record_bytes": record_bytes}
    new = max(decisions - since["decisions"], 1)
    return {
        "decisions": decisions,
        "hours": round(trainer.seconds / 3600, 2),
        "rss_mib": round(process.memory_info().rss / 2**20, 1),
        "objects": len(gc.get_objects()),
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "files": len(files),
        "cpu_s": round(cpu_s, 1),
        "record_bytes": record_bytes,
        "cpu_ms_a_decision": round(1000 * (cpu_s - since["cpu_s"]) / new, 1),
        "record_bytes_a_decision": (record_bytes - since["record_bytes"]) // new,
    }


def _bytes_of(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    run_study(
        __doc__, measure, holds=lambda line: not line["grown"],
        decisions=100_000, hours=12.0, lines=20, planner="embedded",
    )  # fmt: skip
