"""What a person sees while a run goes on: a live table on a terminal, else a line per epoch.

All of it goes to standard error; standard output is for results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rudder.cli.show import figures
from rudder.cli.show.progress import Verbosity, drawing_on, say, verbosity
from rudder.cli.show.steering_lines import SteeringWatch
from rudder.training.checkpoint.format import Written
from rudder.training.events import (
    BufferMade,
    CheckpointWritten,
    EpochDone,
    Evaluated,
    Event,
    LossWentWrong,
    PhaseEntered,
    Progress,
)
from rudder.training.metrics import EpochMetrics, Evaluation, Memory, RowCounts, Window

_FIRST_EPOCHS = 10
_PAUSE_S = 10.0
"""After the first epochs, a line tells of an epoch if none did for so long; and of the last one."""
_COLUMNS = (
    "rank", "phase", "epoch", "step", "steps/s", "hits", "rows fetched", "wait ms a step",
)  # fmt: skip


class Detail(str):
    """A line that only -v and --log-file tell."""


@dataclass
class _Rank:
    phase: str = "starting"
    epoch: int | None = None
    step: str = figures.ABSENT
    window: Window | None = None
    rows_of_epoch: RowCounts = field(default_factory=RowCounts)

    def enter(self, told: Progress) -> None:
        self.epoch, self.step = told.epoch, f"{told.step_in_epoch}/{told.steps_in_epoch}"
        if told.window is None:
            return
        if self.window is None or told.window.epoch != self.window.epoch:
            self.rows_of_epoch = RowCounts()
        self.rows_of_epoch += told.window.rows
        self.window = told.window


class RunProgress:
    """The latest of every rank, and lines for what all ranks have done."""

    def __init__(
        self,
        *,
        num_ranks: int,
        epochs: int,
        watch: SteeringWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """watch: for what controllers decide; clock: seconds."""
        self.evaluations: list[Evaluation] = []
        self._watch, self._epochs, self._clock = watch, epochs, clock
        self._ranks = {rank: _Rank() for rank in range(num_ranks)}
        self._done: dict[int, dict[int, EpochMetrics]] = {}
        self._told_at: dict[str, float] = {}
        self._buffers: dict[int, Memory] = {}
        self._is_training = False

    def note(self, event: Event) -> list[str]:
        """Take in an event; returns lines for what it completes and for new decisions."""
        news: list[str] = []
        if self._watch is not None and isinstance(event, Progress | EpochDone):
            news = self._watch.news(event.rank)
        line = self._line(event)
        return news if line is None else [*news, line]

    def last_news(self) -> list[str]:
        """What controllers have decided since the last event."""
        if self._watch is None:
            return []
        return [line for rank in self._ranks for line in self._watch.last_news(rank)]

    def _line(self, event: Event) -> str | None:
        if isinstance(event, PhaseEntered):
            return self._phase_line(event)
        if isinstance(event, BufferMade):
            self._buffers[event.rank] = event.memory
        if isinstance(event, Progress):
            self._ranks[event.rank].enter(event)
        if isinstance(event, LossWentWrong):
            return (
                f"rank {event.rank}: the loss is {event.loss} at step {event.step + 1} of epoch"
                f" {event.epoch + 1}; {event.action}"
            )
        if isinstance(event, EpochDone):
            return self._epoch_line(event.rank, event.metrics)
        if isinstance(event, CheckpointWritten):
            return _checkpoint_line(event.written)
        if isinstance(event, Evaluated):
            self.evaluations.append(event.evaluation)
            return self._evaluation_line(event.evaluation)
        return None

    def table(self) -> Table:
        """One row per rank, of its latest window; with agents, also their changes."""
        changes = () if self._watch is None else ("changes kept", "changes undone")
        rows = [
            [str(number), *self._cells(number, rank), *self._changes(number)]
            for number, rank in self._ranks.items()
        ]
        return figures.table((*_COLUMNS, *changes), rows, text=("phase",))

    def _changes(self, number: int) -> list[str]:
        if self._watch is None:
            return []
        report = self._watch.report(number)
        if report is None:
            return [figures.ABSENT] * 2
        return [figures.count(report.counts.confirmed), figures.count(report.counts.reverted)]

    def _cells(self, number: int, rank: _Rank) -> list[str]:
        phase, window = self._phase(number, rank), rank.window
        if rank.epoch is None:
            return [phase, *[figures.ABSENT] * 6]
        epoch = f"{rank.epoch + 1}/{self._epochs}" if self._epochs else f"{rank.epoch + 1}"
        place = [phase, epoch, rank.step]
        if window is None:
            return [*place, *[figures.ABSENT] * 4]
        busy_s = window.seconds.compute + window.seconds.exposed_wait
        return [
            *place,
            f"{window.num_steps / busy_s:.1f}" if busy_s else figures.ABSENT,
            figures.percent(self._hit_fraction(window.rows)),
            figures.short_count(rank.rows_of_epoch.rows_fetched.total),
            f"{1000 * window.stalled_seconds / window.num_steps:.1f}",
        ]

    def _phase(self, number: int, rank: _Rank) -> str:
        """The trainer's phase; while it trains, that of its controller if it has one."""
        report = None if self._watch is None else self._watch.report(number)
        return rank.phase if report is None or rank.phase != "training" else report.phase

    def _hit_fraction(self, rows: RowCounts) -> float | None:
        windows = [rank.window for rank in self._ranks.values() if rank.window is not None]
        has_buffer = rows.hits > 0 or any(each.settings.capacity_rows for each in windows)
        return rows.hit_fraction if has_buffer else None

    def _phase_line(self, event: PhaseEntered) -> str | None:
        detail = Detail(f"{event.role} {event.rank}: {event.phase}")
        if event.role == "server":
            return detail
        is_again = self._ranks[event.rank].phase == event.phase != "starting"
        self._ranks[event.rank].phase = event.phase
        return self._training_line() or (None if is_again else detail)

    def _training_line(self) -> str | None:
        if self._is_training or any(rank.phase != "training" for rank in self._ranks.values()):
            return None
        self._is_training = True
        told = f"{len(self._ranks)} trainers are training"
        return told + _of_buffers(list(self._buffers.values())) if self._buffers else told

    def _is_told(self, kind: str, epoch: int) -> bool:
        now = self._clock()
        is_due = now - self._told_at.get(kind, 0.0) >= _PAUSE_S
        if epoch >= _FIRST_EPOCHS and epoch + 1 != self._epochs and not is_due:
            return False
        self._told_at[kind] = now
        return True

    def _epoch_line(self, rank: int, metrics: EpochMetrics) -> str | None:
        done = self._done.setdefault(metrics.epoch, {})
        done[rank] = metrics
        if len(done) < len(self._ranks):
            return None
        del self._done[metrics.epoch]
        slowest = max(done, key=lambda rank: done[rank].seconds_total)
        of_slowest = done[slowest]
        rows = sum((metrics.rows for metrics in done.values()), RowCounts())
        line = (
            f"epoch {metrics.epoch + 1}/{self._epochs}:"
            f" {figures.seconds(of_slowest.seconds_total)} s (slowest: rank {slowest}),"
            f" exposed wait {figures.seconds(of_slowest.seconds.exposed_wait)} s,"
            f" hits {figures.percent(self._hit_fraction(rows))},"
            f" rows fetched {figures.count(rows.rows_fetched.total)},"
            f" loss {figures.decimal(_mean_loss(list(done.values())))}"
        )
        return line if self._is_told("epoch", metrics.epoch) else Detail(line)

    def _evaluation_line(self, evaluation: Evaluation) -> str | None:
        main, *others = evaluation.scores
        told = [
            f"test {main.name} {figures.score(main.test, name=main.name)}",
            f"validation {figures.score(main.val, name=main.name)}",
            *[f"{each.name} {figures.score(each.test, name=each.name)}" for each in others],
        ]
        seconds = figures.seconds(evaluation.seconds)
        line = f"epoch {evaluation.epoch + 1}/{self._epochs}: {', '.join(told)} ({seconds} s)"
        if evaluation.model_error is not None:
            return f"{line}; the model could not be written: {evaluation.model_error}"
        return line if self._is_told("evaluation", evaluation.epoch) else Detail(line)


def _checkpoint_line(written: Written) -> str:
    if written.error is not None:
        return f"a checkpoint could not be written: {written.error}"
    return Detail(f"checkpoint after step {written.step:,}")


def _of_buffers(made: list[Memory]) -> str:
    """Their rows and bytes, of how many remote rows, and the memory budget."""
    rows = sum(each.buffer_rows or 0 for each in made)
    remote = sum(each.map_nodes for each in made)
    size = max(each.buffer_bytes for each in made)
    budget = min(each.budget_bytes for each in made)
    share = "all" if rows >= remote else figures.percent(rows / remote)
    return (
        f"; a buffer holds up to {figures.mebibytes(size)}, {share} of the remote rows"
        f" (memory budget: {figures.mebibytes(budget)} a trainer)"
    )


def _mean_loss(metrics: list[EpochMetrics]) -> float | None:
    losses = [epoch.loss for epoch in metrics if epoch.loss is not None]
    return sum(losses) / len(losses) if losses else None


_REFRESHES_PER_S = 4


class PlainDisplay:
    """A line per epoch and evaluation, for log files and pipes; told of events inside its `with`
    block."""

    def __init__(self, console: Console, progress: RunProgress) -> None:
        """Write to `console` what `progress` finds worth telling."""
        self._console, self._progress = console, progress

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """The evaluations so far."""
        return self._progress.evaluations

    def on_event(self, event: Event) -> None:
        """Write the lines that an event gives rise to."""
        self._tell(self._progress.note(event))

    def _tell(self, lines: Sequence[str]) -> None:
        for line in lines:
            is_detail = isinstance(line, Detail)
            say(line, least=Verbosity.VERBOSE if is_detail else Verbosity.NORMAL)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._drawing = drawing_on(self._console)
        self._drawing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Tell what is left to tell."""
        self._tell(self._progress.last_news())
        self._drawing.__exit__(None, None, None)


class LiveDisplay(PlainDisplay):
    """The same lines, above a table of all ranks that is redrawn in place."""

    def __init__(self, console: Console, progress: RunProgress) -> None:
        """Draw on `console`, a terminal."""
        super().__init__(console, progress)
        self._live = Live(
            console=console,
            get_renderable=progress.table,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start(refresh=True)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Remove the table; the lines stay."""
        self._live.stop()
        super().__exit__()


def make_display(
    *, num_ranks: int, epochs: int, console: Console | None = None, steered: Path | None = None
) -> PlainDisplay:
    """The display that fits the console; default: standard error.

    steered: folder of a run with controllers, whose decisions are shown, too.
    """
    watch = None if steered is None else SteeringWatch(steered)
    progress = RunProgress(num_ranks=num_ranks, epochs=epochs, watch=watch)
    console = Console(stderr=True) if console is None else console
    is_drawn = console.is_terminal and verbosity() >= Verbosity.NORMAL
    return LiveDisplay(console, progress) if is_drawn else PlainDisplay(console, progress)
