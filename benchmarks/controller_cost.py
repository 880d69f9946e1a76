"""What a controller takes of a core: for a decision, part by part, and while nothing can be gained.

    python -m benchmarks.controller_cost runs/steered --decisions 100 --seconds 0
    python -m benchmarks.controller_cost --decisions 0 --seconds 100 --trainers 8

- decisions: the windows of a steered run (its folder, or a rankN.db) pass through all that a
  controller does with them, and on each a decision is made, as soon as the estimator can say
  anything; the trainer refuses every change, for its windows are told already. Without a run: those
  of a simulated trainer with as many sampled accesses as community-200k has. Milliseconds of
  processor time, all threads.
- idle: simulated trainers whose buffers hold all that they use tell their windows at real control
  ports, at the pace of steps of 22 ms (as community-200k's); one controller process steers them as
  those of a host. A line for each quarter of the time: the first has imports and first decisions.
  Windows are of one trainer, peak_mib of the process so far.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.shared import run_study, spread
from rudder.agents.steering import Steering
from rudder.bench.gauge import ControllerGauge
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.run.run_reader import RunReader, run_files
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.estimate.history import History
from rudder.training.control.controller_process import (
    ControllerProcess,
    controller_command,
    pid_file_of,
)
from rudder.training.control.messages import Attention, read_message, to_line
from rudder.training.control.peers import FinishedWindow
from rudder.training.control.service import ControlPort
from rudder.training.errors import DataError
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload

_WINDOWS = 30
WINDOW = ("message", "history", "window row")
_QUARTERS = 4


class Meter:
    """Processor time by part; a part within another does not count as that."""

    def __init__(self) -> None:
        self.ms: defaultdict[str, float] = defaultdict(float)
        self._parts = ["graph"]
        self._since = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done within is this part's."""
        self._charge()
        self._parts.append(name)
        yield
        self._charge()
        self._parts.pop()

    def taken(self) -> dict[str, float]:
        """All since the last time, by part."""
        self._charge()
        found, self.ms = dict(self.ms), defaultdict(float)
        return found

    def watch(self, target: object, **parts: str) -> None:
        """Have methods of an object counted as parts."""
        for method, part in parts.items():
            setattr(target, method, self._watched(getattr(target, method), part))

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            with self.part(part):
                found = function(*arguments, **named)
            return self._waited(found, part) if inspect.isawaitable(found) else found

        return watched

    async def _waited(self, work: Awaitable[Any], part: str) -> Any:
        with self.part(part):
            return await work

    def _charge(self) -> None:
        now = time.process_time()
        self.ms[self._parts[-1]] += 1000 * (now - self._since)
        self._since = now


@dataclass
class RefusingTrainer:
    """Refuses all changes: its settings are those of the windows."""

    history: History | None = None

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        """Refuse."""
        assert self.history is not None
        rank, step = self.history.workload.rank, self.history.next_step
        return Applied(
            command_id="refused", outcome="refused", rank=rank, step=step,
            settings=self.history.settings, reason="the windows are told already",
        )  # fmt: skip


def steering_of(workload: Workload, journal: SqliteJournal, meter: Meter) -> Steering:
    """As a controller makes it, with every part watched."""
    trainer = RefusingTrainer()
    steering = Steering(workload, sender=trainer, journal=journal, options=SteeringOptions())
    team, toolbox = steering.team, steering.toolbox
    trainer.history = toolbox.history
    meter.watch(journal, add_window="window row", save="rows", log="rows", add_inputs="rows")
    meter.watch(journal, recall="recall")
    meter.watch(toolbox.history, add="history")
    meter.watch(toolbox.whatif, effect="what-if", opt="what-if")
    meter.watch(steering.recorder, begin="trace")
    meter.watch(team.observer, observe="observer")
    meter.watch(team.planner, plan="planner")
    meter.watch(team.critic, review="critic")
    return steering


async def decided(workload: Workload, windows: list[Window], path: Path) -> list[dict[str, float]]:
    """Milliseconds by part of each window on which a decision was made."""
    meter, found = Meter(), []
    path.unlink(missing_ok=True)
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(workload)
    steering = steering_of(workload, journal, meter)
    for line in map(to_line, windows):
        steering.wake()
        meter.taken()
        with meter.part("message"):
            window = read_message(line)
        assert isinstance(window, Window)
        await steering.take(window)
        taken = meter.taken()
        if steering.toolbox.whatif.is_ready:
            found.append(taken)
    journal.close()
    return found


def decision_cost(options: Namespace, path: Path) -> dict[str, Any]:
    """Spreads by part, over at least so many decisions; the first pass warms up."""
    workload, windows = recorded(options.run) if options.run else simulated()
    found: list[dict[str, float]] = []
    for number in itertools.count():
        more = asyncio.run(decided(workload, windows, path))
        if not more:
            raise DataError("the run is too short for any estimate", remedy="give a longer one")
        found += more if number else []
        if len(found) >= options.decisions:
            break
    window = [sum(each.get(part, 0.0) for part in WINDOW) for each in found]
    decision = [sum(each.values()) - own for each, own in zip(found, window, strict=True)]
    parts = {name: None for each in found for name in each}
    return {
        "decisions": len(found),
        "decision_ms": spread(decision),
        "window_ms": spread(window),
        "parts_ms": {name: spread([each.get(name, 0.0) for each in found]) for name in parts},
    }


def simulated() -> tuple[Workload, list[Window]]:
    """A trainer that a quarter of the nodes in the buffer would serve well."""
    stream = ZipfStream(num_remote=100_000, draws=10_000)
    settings = BufferSettings(capacity_rows=18_000, lookahead_batches=40)
    trainer = SimulatedTrainer(stream, settings=settings, costs=Costs(row_ms=0.004))
    return trainer.workload, [trainer.window() for _ in range(_WINDOWS)]


def recorded(where: Path) -> tuple[Workload, list[Window]]:
    """Of a run's first rank; raises RudderError."""
    with RunReader(run_files(where)[0]) as reader:
        return next(iter(reader.workloads().values())), reader.windows(with_slices=True)


def train(port: ControlPort, trainer: SimulatedTrainer, *, seconds: float) -> tuple[int, int, int]:
    """Tell windows at their pace for so long: how many, how many sampled, steps of the last."""
    end, windows, sampled, steps = time.monotonic() + seconds, 0, 0, 0
    while (begun := time.monotonic()) < end:
        wanted = Attention(window_steps=port.window_steps, accesses=port.wants_accesses)
        asyncio.run(trainer.attend(wanted))
        window = trainer.window()
        time.sleep(max(begun + (window.wall_seconds or 0.0) - time.monotonic(), 0.0))
        while (command := port.take()) is not None:
            applied = asyncio.run(trainer.send(command.change, issued_at_step=None))
            port.answer(applied.model_copy(update={"command_id": command.command_id}))
        port.publish(FinishedWindow(window))
        windows, sampled, steps = windows + 1, sampled + wanted.accesses, window.num_steps
    return windows, sampled, steps


def idle_trainer(rank: int) -> SimulatedTrainer:
    """A trainer that has nothing to gain."""
    stream = ZipfStream(num_remote=100_000, draws=8_000, seed=rank)
    settings = BufferSettings(capacity_rows=stream.num_remote, lookahead_batches=40)
    costs = Costs(row_ms=0.001)
    return SimulatedTrainer(
        stream, settings=settings, costs=costs, steps=10**7, rank=rank, seed=rank + 1
    )


def quarters(seconds: float, folder: Path, *, trainers: int = 1) -> Iterator[dict[str, float]]:
    """One controller from its start on."""
    sockets = {rank: folder / "control" / f"rank{rank}.sock" for rank in range(trainers)}
    sockets[0].parent.mkdir()
    ranks = [idle_trainer(rank) for rank in sockets]
    with ExitStack() as stack:
        ports = [
            stack.enter_context(ControlPort(path, rank=rank, workload=ranks[rank].workload))
            for rank, path in sockets.items()
        ]
        controller = ControllerProcess(
            controller_command(sockets, options=SteeringOptions(), folder=folder),
            log=folder / "controller.log",
            pid_files=[pid_file_of(sockets[0])],
        )
        threads = stack.enter_context(ThreadPoolExecutor(trainers))
        gauge, before = ControllerGauge(sockets[0].parent), 0.0
        for number in range(1, _QUARTERS + 1):
            begun = time.monotonic()
            training = partial(train, seconds=seconds / _QUARTERS)
            (windows, sampled, steps), *_ = threads.map(training, ports, ranks)
            use = gauge.read()["rank0"]
            percent = 100 * (use.cpu_seconds - before) / (time.monotonic() - begun)
            before = use.cpu_seconds
            yield {
                "quarter": number, "core_percent": percent, "peak_mib": use.peak_rss_bytes / 2**20,
                "windows": windows, "sampled_windows": sampled, "steps_of_last_window": steps,
            }  # fmt: skip
    controller.close()


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    if options.decisions:
        yield decision_cost(options, folder / "rank0.db")
    if options.seconds:
        yield from quarters(options.seconds, folder, trainers=options.trainers)


if __name__ == "__main__":
    run_study(__doc__, measure, positional=("run", "?"), decisions=100, seconds=100.0, trainers=1)
