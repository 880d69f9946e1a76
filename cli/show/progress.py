"""What is written to the terminal; a terminal that is gone or full never ends the work."""

from __future__ import annotations

import io
import os
import select
import sys

import typer
from pydantic_core import to_json
from rich.console import Console, RenderableType

_PATIENCE_S = 1.0
"""How long a progress line waits for a reader that has stopped (Ctrl-S, a pager)."""


def say(text: str) -> None:
    """Write a line for a person to standard error; standard output is for results."""
    typer.echo(text, err=True)


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
    """Whether nobody reads standard output any more: `rudder audit tail -f | head -1`."""
    sys.stdout.flush()
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))
