"""`rudder steer`: switch steering of a running job off and on, see how it stands, limit memory."""

from __future__ import annotations

import json as json_text
import os
from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.commands.settings import ask, rank_of_socket, settings_line, sockets_in, workload_of
from rudder.cli.help import App
from rudder.cli.options import AsJson, RunOption
from rudder.training.errors import ConfigError

app = App("Switch steering of a running job off and on, see its state, limit its memory.")
_CONNECT_S = 1.0


@app.command()
def off(run: RunOption) -> None:
    """Stop steering; trainers go back to their defaults within 16 steps.

    Example: rudder steer off --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    (control_folder(run) / OFF_FILE).touch()
    typer.echo("steering is off; trainers go back to their defaults within 16 steps")


@app.command()
def on(run: RunOption) -> None:
    """Start steering again.

    Example: rudder steer on --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    (control_folder(run) / OFF_FILE).unlink(missing_ok=True)
    typer.echo("steering is on")


@app.command()
def status(
    run: RunOption,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0)] = 10.0,
    json: AsJson = False,
) -> None:
    """Show, for each trainer, the settings in force and its controller.

    Example: rudder steer status --run runs/demo
    """
    from rudder.agents.controller.report import read_report
    from rudder.training.control.controller_process import pid_file_of
    from rudder.training.control.steering import OFF_FILE

    folder = control_folder(run)
    is_on = not (folder / OFF_FILE).exists()
    trainers: list[dict[str, object]] = []
    lines = [f"steering is {'on' if is_on else 'off'}"]
    for socket in sockets_in(folder):
        rank = rank_of_socket(socket)
        if not _listens(socket):
            trainers.append({"rank": rank, "listens": False})
            lines.append(f"rank {rank}: no trainer listens; it ended without closing its loader")
            continue
        answer, pid = ask(socket, timeout_s=timeout), _running(pid_file_of(socket))
        told = {"step": answer.step, "settings": answer.settings.model_dump(), "controller": pid}
        trainers.append({"rank": rank, "listens": True, **told})
        controller = "no controller" if pid is None else f"controller {pid}"
        report = read_report(run, rank)
        if pid is not None and report is not None:
            trainers[-1] |= {"phase": report.phase, "shortage": report.shortage}
            why = f", gives memory back: {report.shortage}" if report.shortage else ""
            controller += f" ({report.phase}{why})"
        lines.append(f"rank {rank}: {settings_line(run, answer)}; {controller}")
    if json:
        typer.echo(json_text.dumps({"is_on": is_on, "trainers": trainers}, indent=2))
    else:
        typer.echo("\n".join(lines))


@app.command()
def budget(
    run: RunOption,
    size: Annotated[
        str, typer.Argument(help="Bytes of all buffers of a host: 512MiB.", show_default=False)
    ],
) -> None:
    """Limit the memory of a running job's buffers; controllers keep to it from the next window on.

    Example: rudder steer budget --run runs/demo 512MiB
    """
    from rudder.cli.show import figures
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
    typer.echo(f"buffers of a host may take {figures.mebibytes(num_bytes)}")
    if problem := _why_no_buffer(run, num_bytes):
        typer.echo(problem, err=True)


def control_folder(run: Path) -> Path:
    """Where a run's sockets and switches are; raises ConfigError for a run that is over."""
    folder = run / "control"
    sockets = sockets_in(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"run = {str(run)!r} is not a run that is training now",
            remedy="name a run that is training; this one is over, or has not started",
        )
    if sockets and not any(map(_listens, sockets)):
        names = ", ".join(socket.stem for socket in sockets)
        raise ConfigError(
            f"none of the trainers of run = {str(run)!r} ({names}) listens on this machine: they"
            " run elsewhere, crashed, were killed, or ended without closing their loaders",
            remedy="if the run goes on, give this command on a machine that trains;"
            f" `rudder audit list {run}` shows what was done",
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
    """Why the budget leaves no buffer, as far as the run's record tells how large a row is."""
    from rudder.training.machine import why_no_buffer

    work = workload_of(run, 0)
    if work is None:
        return None
    return why_no_buffer(num_bytes, trainers=work.trainers_on_host, row_bytes=work.row_bytes)


def _running(pid_file: Path) -> int | None:
    """The process that a pid file names, if it runs."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid
