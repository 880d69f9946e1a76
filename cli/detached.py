"""`rudder train --detach`: a run that goes on in the background, and how others wait for it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
import typer
from pydantic import Field, ValidationError

from rudder.memory.run.run_folder import StoredRun
from rudder.training.events import Event, PhaseEntered
from rudder.training.settings import Frozen

LOG_NAME = "train.log"
_FILE_NAME = "detached.json"
_LOOK_S = 0.5
_GRACE_S = 10.0
"""So long after its last process a run without a launcher of its own may write its summary."""


class Detached(Frozen):
    """A run in the background: what `rudder train --detach` prints; pid: of the process to end."""

    state: str = "training"
    run: str
    pid: int = Field(ge=1)
    trainers: int
    log: str


class Parting:
    """The background process: tells the foreground one that all trainers train, and leaves it."""

    def __init__(self, pipe: int, *, num_ranks: int, run_dir: Path) -> None:
        self._pipe, self._run_dir = pipe, run_dir.absolute()
        self._waited_for, self._num_ranks = set(range(num_ranks)), num_ranks

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, PhaseEntered) and event.phase == "training" and self._waited_for:
            self._waited_for.discard(event.rank)
            if not self._waited_for:
                self._leave()

    def _leave(self) -> None:
        log = self._run_dir / LOG_NAME
        told = Detached(
            run=str(self._run_dir), pid=os.getpid(), trainers=self._num_ranks, log=str(log)
        )
        (self._run_dir / _FILE_NAME).write_text(told.model_dump_json() + "\n")
        _redirect_to(log)
        os.write(self._pipe, told.model_dump_json().encode())
        os.close(self._pipe)


def _redirect_to(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for source, target in ((nothing, 0), (lines, 1), (lines, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(lines)


def part() -> int | None:
    """Go on in a background process; returns there the pipe for `Parting`.

    In the foreground it waits until all trainers train, prints a line and returns None; if the
    background process ends before, it ends with the same exit code. Ctrl-C and SIGTERM are passed
    on until then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()  # no Ctrl-C, and no end with the terminal
        os.environ["TTY_COMPATIBLE"] = "0"  # rich draws nothing that a log would keep
        return writing
    os.close(writing)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    with os.fdopen(reading, "rb") as lines:
        line = lines.read().decode()
    if line:
        typer.echo(line)
        return None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    raise typer.Exit(128 - code if code < 0 else code)


def wait_for(run: StoredRun, *, timeout_s: float | None) -> bool:
    """Wait until a run is over and has written what it leaves; False if that takes longer."""
    began = seen_at = time.monotonic()
    while True:
        now = time.monotonic()
        if _launcher_of(run.folder) is not None or run.is_live:
            seen_at = now
        elif not _may_write(run) or now - seen_at > _GRACE_S:
            return True
        if timeout_s is not None and now - began >= timeout_s:
            return False
        time.sleep(_LOOK_S)


def _may_write(run: StoredRun) -> bool:
    """Whether a launcher that is not known may be writing the summary of the run."""
    return run.state == "cut short" and not (run.folder / _FILE_NAME).exists()


def _launcher_of(run: Path) -> int | None:
    """The process of a detached run, while it is there."""
    file = run / _FILE_NAME
    try:
        told = Detached.model_validate_json(file.read_bytes())
        process = psutil.Process(told.pid)
        is_it = process.create_time() <= file.stat().st_mtime + 1
        return told.pid if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValidationError, psutil.Error):
        return None
