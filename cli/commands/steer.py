"""`rudder steer`: switch steering of a running job off and on, see how it stands, limit memory."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.training.errors import ConfigError

if TYPE_CHECKING:
    from rudder.training.settings import Applied


app = typer.Typer(
    name="steer", help="Steering of a running job: off, on, status.", no_args_is_help=True
)
_CONNECT_S = 1.0
Run = Annotated[Path, typer.Option("--run", help="Folder of the run.", show_default=False)]


@app.command()
def off(run: Run) -> None:
    """Let controllers change nothing; trainers go back to their defaults within one window.

    Example: rudder steer off --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    (control_folder(run) / OFF_FILE).touch()
    typer.echo("steering is off; trainers go back to their defaults within 16 steps")


@app.command()
def on(run: Run) -> None:
    """Let controllers steer again.

    Example: rudder steer on --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    (control_folder(run) / OFF_FILE).unlink(missing_ok=True)
    typer.echo("steering is on")


@app.command()
def status(
    run: Run,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0)] = 10.0,
) -> None:
    """Show, for each trainer, the settings in force and its controller.

    Example: rudder steer status --run runs/demo
    """
    from rudder.training.control.controller_process import pid_file_of
    from rudder.training.control.port import send_command
    from rudder.training.control.steering import OFF_FILE
    from rudder.training.settings import Command

    folder = control_folder(run)
    typer.echo(f"steering is {'off' if (folder / OFF_FILE).exists() else 'on'}")
    for socket in _sockets(folder):
        if not _listens(socket):
            typer.echo(f"{socket.stem}: no trainer listens; it ended without closing its loader")
            continue
        answer = send_command(socket, Command(command_id=uuid.uuid4().hex), timeout)
        pid = _running(pid_file_of(socket))
        typer.echo(f"{_line(answer)}; {'no controller' if pid is None else f'controller {pid}'}")


@app.command()
def budget(
    run: Run,
    size: Annotated[
        str, typer.Argument(help="Bytes of all buffers of a host: 512MiB.", show_default=False)
    ],
) -> None:
    """Limit the memory of a running job's buffers; controllers keep to it from the next window on.

    Example: rudder steer budget --run runs/demo 512MiB
    """
    from rudder.training.config import parse_bytes
    from rudder.training.control.steering import BUDGET_FILE

    try:
        num_bytes = parse_bytes(size)
    except ValueError:
        raise ConfigError.for_field("budget", value=size, allowed="512MiB, 2GiB, 5000") from None
    file = control_folder(run) / BUDGET_FILE
    fresh = file.with_suffix(".tmp")
    fresh.write_text(f"{num_bytes}\n")
    fresh.replace(file)
    typer.echo(f"buffers of a host may take {num_bytes} bytes")
    if problem := _why_no_buffer(run, num_bytes):
        typer.echo(problem, err=True)


def control_folder(run: Path) -> Path:
    """Where a run's sockets and switches are; raises ConfigError for a run that is over."""
    folder = run / "control"
    if not folder.is_dir():
        raise ConfigError(
            f"run = {str(run)!r} is not a run that is training now",
            remedy="give the folder of a run that is; it is over, or has not started",
        )
    sockets = _sockets(folder)
    if sockets and not any(map(_listens, sockets)):
        names = ", ".join(socket.stem for socket in sockets)
        raise ConfigError(
            f"run = {str(run)!r} is over: none of its trainers ({names}) listens any more; they"
            " crashed, were killed, or ended without closing their loaders",
            remedy=f"`rudder audit list {run}` shows what was done;"
            f" to have this not told again: rm -r {folder}",
        )
    return folder


def _listens(socket: Path) -> bool:
    """Whether a trainer is at its socket; a busy one is."""
    from rudder.training.control import unix_socket

    try:
        unix_socket.connect(socket, timeout_s=_CONNECT_S).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def _why_no_buffer(run: Path, num_bytes: int) -> str | None:
    """As far as the record tells what a row takes: a run that keeps none cannot be asked."""
    from rudder.memory.run.run_file import run_files
    from rudder.memory.run.run_reader import RunReader
    from rudder.training.errors import RudderError
    from rudder.training.machine import why_no_buffer

    try:
        with RunReader(run_files(run)[0]) as reader:
            work = next(iter(reader.workloads().values()))
    except (RudderError, LookupError, StopIteration):
        return None
    return why_no_buffer(num_bytes, trainers=work.trainers_on_host, row_bytes=work.row_bytes)


def _sockets(folder: Path) -> list[Path]:
    """Sockets in the order of ranks."""
    return sorted(folder.glob("rank*.sock"), key=lambda path: (len(path.stem), path.stem))


def _running(pid_file: Path) -> int | None:
    """The process that a pid file names, if it runs."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _line(answer: Applied) -> str:
    settings = answer.settings
    return (
        f"rank {answer.rank}, step {answer.step}: capacity {settings.capacity_rows} rows,"
        f" lookahead {settings.lookahead_batches} batches,"
        f" eviction threshold {settings.eviction_threshold:g}"
    )
