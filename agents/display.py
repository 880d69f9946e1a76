"""What a person sees while a run goes on: a live table on a terminal, else a line per epoch.

All of it goes to standard error; standard output is for results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from rudder.agents.board import Board
from rudder.agents.steering_watch import SteeringWatch
from rudder.training.events import Event
from rudder.training.metrics import Evaluation

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

    def __init__(self, board: Board) -> None:
        """Let `board` take in every event."""
        self._board = board

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """The evaluations so far."""
        return self._board.evaluations

    def on_event(self, event: Event) -> None:
        """Remember."""
        self._board.note(event)

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

    def __init__(self, console: Console, board: Board) -> None:
        """Write to `console` what `board` finds worth telling."""
        super().__init__(board)
        self._console = console

    def on_event(self, event: Event) -> None:
        """Write a line where there is one to write."""
        line = self._board.note(event)
        for text in (*self._board.steering_news(event), *([line] if line else [])):
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class LiveDisplay(PlainDisplay):
    """The same lines, above a table of all ranks that is redrawn in place."""

    def __init__(self, console: Console, board: Board) -> None:
        """Draw on `console`, a terminal."""
        super().__init__(console, board)
        self._live = Live(
            console=console,
            get_renderable=board.table,
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
    board = Board(num_ranks=num_ranks, epochs=epochs, watch=watch)
    if quiet:
        return QuietDisplay(board)
    console = Console(stderr=True) if console is None else console
    return LiveDisplay(console, board) if console.is_terminal else PlainDisplay(console, board)
