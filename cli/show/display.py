"""What a person sees while a run goes on: a live table on a terminal, else a line per epoch.

All of it goes to standard error; standard output is for results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rudder.cli.show import figures
from rudder.cli.show.steering_lines import SteeringWatch
from rudder.training.events import EpochDone, Evaluated, Event, PhaseEntered, Progress
from rudder.training.metrics import EpochMetrics, Evaluation, RowCounts, Window


@dataclass
class _Rank:
    phase: str = "starting"
    epoch: int | None = None
    step: str = figures.ABSENT
    window: Window | None = None
    rows_of_epoch: RowCounts = field(default_factory=RowCounts)

    def enter(self, window: Window, step: int, steps: int) -> None:
        if window.epoch != self.epoch:
            self.epoch, self.rows_of_epoch = window.epoch, RowCounts()
        self.rows_of_epoch += window.rows
        self.window = window
        self.step = f"{step}/{steps}"


class RunProgress:
    """The latest of every rank, and lines for what all ranks have done."""

    def __init__(self, *, num_ranks: int, epochs: int, watch: SteeringWatch | None = None) -> None:
        """Begin with nothing heard from anybody; watch: for what controllers decide."""
        self._watch = watch
        self.evaluations: list[Evaluation] = []
        self._epochs = epochs
        self._ranks = {rank: _Rank() for rank in range(num_ranks)}
        self._done: dict[int, dict[int, EpochMetrics]] = {}
        self._is_training = False

    def note(self, event: Event) -> str | None:
        """Take in an event; returns a line where it completes something worth telling."""
        if isinstance(event, PhaseEntered) and event.role == "trainer":
            self._ranks[event.rank].phase = event.phase
            return self._training_line()
        if isinstance(event, Progress):
            rank = self._ranks[event.rank]
            rank.enter(event.window, event.step_in_epoch, event.steps_in_epoch)
        if isinstance(event, EpochDone):
            return self._epoch_line(event.rank, event.metrics)
        if isinstance(event, Evaluated):
            self.evaluations.append(event.evaluation)
            return self._evaluation_line(event.evaluation)
        return None

    def steering_news(self, event: Event) -> list[str]:
        """What controllers have decided since the last call; looked up when ranks make progress."""
        if self._watch is None or not isinstance(event, Progress | EpochDone):
            return []
        return self._watch.news()

    def table(self) -> Table:
        """One row per rank, of its latest window."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("rank", "phase"):
            table.add_column(name)
        for name in ("epoch", "step", "batches/s", "hits", "rows fetched", "exposed wait"):
            table.add_column(name, justify="right")
        if self._watch is not None:
            table.add_column("steering")
        for number, rank in self._ranks.items():
            steering = [] if self._watch is None else [self._watch.cell(number)]
            table.add_row(str(number), rank.phase, *self._cells(rank), *steering)
        return table

    def _cells(self, rank: _Rank) -> list[str]:
        window = rank.window
        if window is None or rank.epoch is None:
            return [figures.ABSENT] * 6
        busy_s = window.seconds.compute + window.seconds.exposed_wait
        wait_ms = 1000 * window.stalled_seconds / window.num_steps
        return [
            f"{rank.epoch + 1}/{self._epochs}",
            rank.step,
            f"{window.num_steps / busy_s:.1f}" if busy_s else figures.ABSENT,
            figures.percent(self._hit_fraction(window.rows)),
            figures.count(rank.rows_of_epoch.rows_fetched.total),
            f"{wait_ms:.1f} ms/step",
        ]

    def _hit_fraction(self, rows: RowCounts) -> float | None:
        windows = [rank.window for rank in self._ranks.values() if rank.window is not None]
        has_buffer = rows.hits > 0 or any(each.settings.capacity_rows for each in windows)
        return rows.hit_fraction if has_buffer else None

    def _training_line(self) -> str | None:
        if self._is_training or any(rank.phase != "training" for rank in self._ranks.values()):
            return None
        self._is_training = True
        return f"{len(self._ranks)} trainers are training"

    def _epoch_line(self, rank: int, metrics: EpochMetrics) -> str | None:
        done = self._done.setdefault(metrics.epoch, {})
        done[rank] = metrics
        if len(done) < len(self._ranks):
            return None
        del self._done[metrics.epoch]
        slowest = max(done, key=lambda rank: done[rank].seconds_total)
        of_slowest = done[slowest]
        rows = sum((metrics.rows for metrics in done.values()), RowCounts())
        return (
            f"epoch {metrics.epoch + 1}/{self._epochs}:"
            f" {figures.seconds(of_slowest.seconds_total)} s (slowest: rank {slowest}),"
            f" exposed wait {figures.seconds(of_slowest.seconds.exposed_wait)} s,"
            f" hits {figures.percent(self._hit_fraction(rows))},"
            f" rows fetched {figures.count(rows.rows_fetched.total)},"
            f" loss {figures.decimal(_mean_loss(list(done.values())))}"
        )

    def _evaluation_line(self, evaluation: Evaluation) -> str:
        return (
            f"epoch {evaluation.epoch + 1}/{self._epochs}:"
            f" test accuracy {figures.percent(evaluation.test_accuracy)},"
            f" validation {figures.percent(evaluation.val_accuracy)},"
            f" micro-F1 {figures.decimal(evaluation.test_f1)}"
            f" ({figures.seconds(evaluation.seconds)} s)"
        )


def _mean_loss(metrics: list[EpochMetrics]) -> float | None:
    losses = [epoch.loss for epoch in metrics if epoch.loss is not None]
    return sum(losses) / len(losses) if losses else None


_REFRESHES_PER_S = 4


class Display(Protocol):
    """Is told every event, inside its `with` block."""

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """The evaluations so far."""

    def on_event(self, event: Event) -> None:
        """Show what has changed."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was found."""


class QuietDisplay:
    """Shows nothing; only remembers."""

    def __init__(self, progress: RunProgress) -> None:
        """Let `board` take in every event."""
        self._progress = progress

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """The evaluations so far."""
        return self._progress.evaluations

    def on_event(self, event: Event) -> None:
        """Remember."""
        self._progress.note(event)

    def __enter__(self) -> Self:
        """Begin; there is nothing to prepare."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; there is nothing to put back."""


class PlainDisplay(QuietDisplay):
    """A line per epoch and evaluation, for log files and pipes."""

    def __init__(self, console: Console, progress: RunProgress) -> None:
        """Write to `console` what `board` finds worth telling."""
        super().__init__(progress)
        self._console = console

    def on_event(self, event: Event) -> None:
        """Write a line where there is one to write."""
        line = self._progress.note(event)
        for text in (*self._progress.steering_news(event), *([line] if line else [])):
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the table; the lines stay."""
        self._live.stop()


def make_display(
    *,
    num_ranks: int,
    epochs: int,
    quiet: bool = False,
    console: Console | None = None,
    steered: Path | None = None,
) -> Display:
    """The display that fits the console; default: standard error.

    steered: folder of a run with controllers, whose decisions are shown, too.
    """
    watch = None if steered is None else SteeringWatch(steered, num_ranks=num_ranks)
    progress = RunProgress(num_ranks=num_ranks, epochs=epochs, watch=watch)
    if quiet:
        return QuietDisplay(progress)
    console = Console(stderr=True) if console is None else console
    return (
        LiveDisplay(console, progress) if console.is_terminal else PlainDisplay(console, progress)
    )
