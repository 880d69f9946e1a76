"""Kills: controllers are killed or stopped at random moments, while a run trains."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rudder.cli.show.progress import say
from rudder.memory.run.run_file import run_files
from rudder.memory.run.run_reader import RunReader
from rudder.training.config import RunConfig
from rudder.training.events import Evaluated, Event, Progress
from rudder.training.launch.run import launch
from rudder.training.metrics import RankReport
from rudder.training.partition.prepare import data_of
from steered.job import Work
from steered.show import Row


class Kills(Row):
    """signals: sent so far, over all runs; longest_step_ms: mean step of the slowest window;
    same_batches: epochs whose steps, input rows and remote rows equal the undisturbed run's, on
    every rank, of `epochs`; loss_difference: largest between their epochs; records_hold: whether
    every audit log is as it was written."""

    run: str
    signals: int
    epochs: int
    same_batches: int
    loss_difference: float
    accuracy: float | None
    epoch_s: float
    longest_step_ms: float
    applied: int
    records_hold: bool


@dataclass
class _Lived:
    folder: Path
    reports: Sequence[RankReport] = ()
    accuracy: float | None = None
    step_ms: list[float] = field(default_factory=list)
    signals: int = 0

    def hear(self, event: Event) -> None:
        if isinstance(event, Evaluated):
            self.accuracy = event.evaluation.test_accuracy
        if isinstance(event, Progress) and event.window.wall_seconds is not None:
            self.step_ms.append(1000 * event.window.wall_seconds / event.window.num_steps)


def kills(work: Work, *, signals: int, pause_s: float, epochs: int, out: Path) -> list[Kills]:
    """Runs, the first one undisturbed, until so many signals were sent; pause_s: mean time
    between two of them, which should leave controllers the time to start again."""
    config = work.config.model_copy(
        update={
            "controller": "on",
            "memory": Path("none"),
            "epochs": epochs,
            "rate": None if work.bench_rate == "none" else work.bench_rate,
        }
    )
    calm = _live(config, out / "calm")
    rows, sent = [_row("undisturbed", calm, calm, 0)], 0
    while sent < signals:
        number = len(rows)
        lived = _live(
            config, out / f"disturbed{number}", Killer(signals - sent, pause_s, seed=number)
        )
        sent += lived.signals
        rows.append(_row(f"disturbed {number}", lived, calm, sent))
    return rows


class Killer:
    """Sends SIGKILL or SIGSTOP to a random controller of a run, every now and then.

    A stopped one is killed with the next signal that hits it, as an operator would.
    """

    def __init__(self, most: int, pause_s: float, *, seed: int) -> None:
        self._most, self._pause_s = most, pause_s
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._stopped: set[int] = set()
        self.sent = 0

    @contextmanager
    def at(self, control: Path) -> Iterator[None]:
        thread = threading.Thread(target=self._run, args=(control,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self, control: Path) -> None:
        while self.sent < self._most:
            if self._over.wait(self._random.uniform(0.2, 1.8) * self._pause_s):
                return
            files = sorted(control.glob("rank*.pid"))
            with suppress(OSError, ValueError, IndexError):
                self._hit(int(self._random.choice(files).read_text()))

    def _hit(self, pid: int) -> None:
        number = self._random.choice([signal.SIGKILL, signal.SIGSTOP])
        if pid in self._stopped:
            number = signal.SIGKILL
        os.kill(pid, number)
        self.sent += 1
        if number == signal.SIGSTOP:
            self._stopped.add(pid)


def _live(config: RunConfig, folder: Path, killer: Killer | None = None) -> _Lived:
    data_dir, manifest = data_of(config, progress=say)
    lived = _Lived(folder)
    killer = killer or Killer(0, 1.0, seed=0)
    with killer.at(folder / "control"):
        lived.reports = launch(
            config, manifest=manifest, data_dir=data_dir, run_dir=folder, on_event=lived.hear
        )
    lived.signals = killer.sent
    return lived


def _row(name: str, lived: _Lived, calm: _Lived, sent: int) -> Kills:
    pairs = [
        list(zip(ours.epochs, theirs.epochs, strict=True))
        for ours, theirs in zip(lived.reports, calm.reports, strict=True)
    ]
    same = [
        all(
            (a.num_steps, a.rows.input_rows, a.rows.remote_rows)
            == (b.num_steps, b.rows.input_rows, b.rows.remote_rows)
            for a, b in ranks
        )
        for ranks in zip(*pairs, strict=True)
    ]
    seconds = [max(ours.seconds_total for ours, _ in ranks) for ranks in zip(*pairs, strict=True)]
    losses = [abs((a.loss or 0.0) - (b.loss or 0.0)) for rank in pairs for a, b in rank]
    holds, applied = _records(lived.folder)
    return Kills(
        run=name,
        signals=sent,
        epochs=len(seconds),
        same_batches=sum(same),
        loss_difference=max(losses),
        accuracy=lived.accuracy,
        epoch_s=sum(seconds) / len(seconds),
        longest_step_ms=max(lived.step_ms),
        applied=applied,
        records_hold=holds,
    )


def _records(folder: Path) -> tuple[bool, int]:
    """Whether all audit logs hold, and the changes that were applied."""
    holds, applied = True, 0
    for file in run_files(folder):
        with RunReader(file) as reader:
            holds = holds and reader.verify().holds
            applied += sum(
                each.applied is not None and each.applied.outcome == "applied"
                for each in reader.episodes()
            )
    return holds, applied
