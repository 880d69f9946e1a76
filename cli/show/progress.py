"""What is written to the terminal; a terminal that is gone or full never ends the work."""

from __future__ import annotations

import io
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Self, TextIO

import typer
from pydantic_core import to_json
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn

from rudder.training.errors import ConfigError, RudderError
from rudder.training.progress import Counted

_PATIENCE_S = 1.0
"""How long a progress line waits for a reader that has stopped (Ctrl-S, a pager)."""
_REDRAW_S = 0.1
_LINE_S = 10.0
"""How often a bar is drawn, and how often a line is written where there is no terminal."""


class Verbosity(IntEnum):
    """How much a person wants to be told; a line has the least that it is told at."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


@dataclass(frozen=True)
class _Voice:
    """log: a file that gets every line; console: what draws on the terminal now."""

    level: Verbosity = Verbosity.NORMAL
    log: TextIO | None = None
    console: Console | None = None


_voice = _Voice()


def say(text: str, *, least: Verbosity = Verbosity.NORMAL) -> None:
    """Write a line for a person to standard error; standard output is for results.

    least: VERBOSE for a detail, which only -v and --log-file show; QUIET for an error.
    """
    if _voice.log is not None:
        _log(text, _voice.log)
    if _voice.level < least:
        return
    if _voice.console is None:
        typer.echo(text, err=True)
    else:
        _voice.console.print(text, soft_wrap=True, highlight=False, markup=False)


def verbosity() -> Verbosity:
    """How much is told now."""
    return _voice.level


@contextmanager
def speaking(level: Verbosity, *, log_file: Path | None = None) -> Iterator[None]:
    """Tell so much within the block, and add every line to a file, with its time.

    A line that a full disk does not take is written with a later one; what is missing at the end is
    told. Raises ConfigError where the file cannot be opened.
    """
    global _voice
    before, log = _voice, None
    if log_file is not None:
        try:
            log = log_file.open("a", buffering=1)
        except OSError as error:
            raise ConfigError.for_field(
                "log_file",
                value=str(log_file),
                allowed="a file that can be written",
                remedy=f"choose another place: {error.strerror}",
            ) from None
    _voice = replace(_voice, level=level, log=log or _voice.log)
    try:
        yield
    except RudderError as error:
        _note_failure(error, log)
        raise
    finally:
        _voice = before
        if log is not None:
            _close(log)


def _log(text: str, log: TextIO) -> None:
    with suppress(OSError):
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=log)


def _close(log: TextIO) -> None:
    try:
        log.close()
    except OSError as error:
        say(f"{log.name} lacks lines: {error.strerror}")


def _note_failure(error: RudderError, log: TextIO | None) -> None:
    """`main` tells the error itself when the file is closed already."""
    if log is not None:
        _log(f"error: {error}", log)
    say("".join(traceback.format_exception(error)).rstrip(), least=Verbosity.VERBOSE)


@contextmanager
def drawing_on(console: Console) -> Iterator[None]:
    """Have lines written by what draws on the terminal, above what it draws."""
    global _voice
    before = _voice
    _voice = replace(_voice, console=console)
    try:
        yield
    finally:
        _voice = before


class Pace:
    """How fast work goes, and how long the rest takes if it goes on so."""

    def __init__(self, *, after: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """after: what is done when the time begins to count; clock: seconds."""
        self._after, self._clock = after, clock
        self._began = clock()

    def text(self, done: int, total: int, unit: str) -> str:
        """Such as `12 of 40 rows, 3 a second, 9 s left`."""
        told = f"{done:,} of {total:,} {unit}"
        elapsed = self._clock() - self._began
        if done <= self._after or not elapsed:
            return told
        rate = (done - self._after) / elapsed
        speed = f"{rate:,.0f} a second" if rate >= 2 else f"{duration(1 / rate)} each"
        return f"{told}, {speed}, {duration(max(total - done, 0) / rate)} left"


def this_clock() -> str:
    """The clock that schedules go by, and what it shows."""
    return f"the clock of this machine, where it is {datetime.now().astimezone():%H:%M %Z}"


def duration(seconds: float) -> str:
    """In the unit that people would use: 0.4 s, 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 2 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class _Bar(BarColumn):
    """Nothing where the total is not known."""

    def render(self, task: Task) -> Any:
        return "" if task.total is None else super().render(task)


class Stage:
    """Tells how far work is: drawn on a terminal, else a line now and then."""

    def __init__(self, console: Console | None, clock: Callable[[], float]) -> None:
        self._console = console or Console(stderr=True)
        self._clock, self._told_at = clock, clock()
        self.is_drawn = self._console.is_terminal and verbosity() >= Verbosity.NORMAL
        self._bar = Progress(
            SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), _Bar(),
            console=self._console, transient=True, disable=not self.is_drawn,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None)
        self._what, self._pace = "", Pace(clock=clock)

    @contextmanager
    def drawn(self) -> Iterator[Self]:
        """Draw it within the block."""
        with self._bar, drawing_on(self._console) if self.is_drawn else nullcontext():
            yield self

    def tell(self, text: str) -> None:
        """Say that a stage begins whose length nobody knows; a terminal shows how long it takes."""
        say(text)
        self._what = ""
        self._bar.reset(self._task, description=text)

    def begin(self, what: str, *, total: int | None = None) -> None:
        """The same of one that is counted, without a line."""
        self._what, self._pace = what, Pace(clock=self._clock)
        self._bar.reset(self._task, description=what, total=total)

    def count(self, counted: Counted) -> None:
        """So much of a stage is done; rate and time left are those since its first count."""
        if counted.what != self._what:
            self.begin(counted.what, total=counted.total)
            self._pace = Pace(after=counted.done, clock=self._clock)
        now = self._clock()
        if now - self._told_at < (_REDRAW_S if self.is_drawn else _LINE_S):
            return
        self._told_at = now
        text = self._pace.text(counted.done, counted.total, counted.unit)
        if self.is_drawn:
            told = f"{counted.what}: {text}"
            self._bar.update(self._task, completed=counted.done, description=told)
        else:
            say(f"{counted.what}: {text}")


@contextmanager
def counting(
    what: str,
    *,
    total: int,
    unit: str,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[int], None]]:
    """Tell how far work is, with rate and time left.

    what: `replaying`; unit: of the total: `rows`; clock: seconds. Yields what to call with the
    number of units that were done since the last call.
    """
    stage, done = Stage(console, clock), 0
    stage.begin(what, total=total)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stage.count(Counted(what=what, done=done, total=total, unit=unit))

    with stage.drawn():
        yield advance


@contextmanager
def stages(
    *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Stage]:
    """Tell the stages of work; how far one is, where that is counted."""
    with Stage(console, clock).drawn() as stage:
        yield stage


def emit(value: object, text: RenderableType, *, json: bool) -> None:
    """Print a command's result: `value` as JSON for programs, or `text` for people."""
    if json:
        typer.echo(to_json(value, indent=2, inf_nan_mode="null").decode())
    elif isinstance(text, str):
        typer.echo(text)
    else:
        Console().print(text, highlight=False)


class StandardStream(io.FileIO):
    """A standard stream that drops what cannot be written, instead of raising.

    `error` is why: BrokenPipeError if the reader is gone, OSError if the disk is full.
    """

    def __init__(self, number: int, *, patience_s: float | None = None) -> None:
        """number: of the descriptor; patience_s: how long to wait for the reader; None: forever."""
        super().__init__(number, "wb", closefd=False)
        self.error: OSError | None = None
        self._patience_s, self._has_reader = patience_s, True

    def write(self, data: object, /) -> int:
        """Write what the stream takes now; returns the bytes that are written or dropped."""
        part = memoryview(data)[: select.PIPE_BUF]  # type: ignore[arg-type]  # as in FileIO
        if self.error is None and self._is_ready():
            try:
                return super().write(part)
            except OSError as error:
                self.error = error
        return len(part)

    def _is_ready(self) -> bool:
        """Wait for the reader, but only once for a reader that has stopped."""
        if self._patience_s is None:
            return True
        wait_s = self._patience_s if self._has_reader else 0
        self._has_reader = bool(select.select([], [self], [], wait_s)[1])
        return self._has_reader


def keep_streams_open() -> StandardStream:
    """Have `sys.stdout` and `sys.stderr` drop what cannot be written; returns standard output."""
    for number in range(3):  # a closed one would be the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    out, err = StandardStream(1), StandardStream(2, patience_s=_PATIENCE_S)
    sys.stdout, sys.stderr = _text(out, sys.stdout), _text(err, sys.stderr)
    return out


def _text(raw: StandardStream, before: object) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    errors = getattr(before, "errors", None) or "backslashreplace"
    is_line_buffered = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=is_line_buffered
    )


def is_output_closed() -> bool:
    """Whether standard output takes no more: `rudder audit tail -f | head -1`, a full disk."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, StandardStream) and raw.error is not None:
        return True
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))
