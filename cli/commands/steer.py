"""`rudder steer`: switch steering of a running job off and on, see how it stands, change aims."""

from __future__ import annotations

import json as json_text
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.commands.settings import ask, control_for, settings_line, workload_of
from rudder.cli.help import App
from rudder.cli.options import AsJson, RunOption
from rudder.training.control.door import Control, LocalControl, listens, rank_of_socket
from rudder.training.errors import ConfigError
from rudder.training.steering_options import ObjectiveName

if TYPE_CHECKING:
    from rudder.training.control.steering import HostSetting

app = App("Switch steering of a running job off and on, see its state, change its aims.")
_CONNECT_S = 1.0


@app.command()
def off(run: RunOption) -> None:
    """Stop steering; trainers go back to their defaults within 16 steps.

    Example: rudder steer off --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    control_in_use(run).write(OFF_FILE, "")
    typer.echo("steering is off; trainers go back to their defaults within 16 steps")


@app.command()
def on(run: RunOption) -> None:
    """Start steering again.

    Example: rudder steer on --run runs/demo
    """
    from rudder.training.control.steering import OFF_FILE

    control_in_use(run).remove(OFF_FILE)
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
    from rudder.training.control.steering import OFF_FILE

    control = control_in_use(run)
    is_on, changed = control.read(OFF_FILE) is None, _changed(control)
    trainers: list[dict[str, object]] = []
    lines = [f"steering is {'on' if is_on else 'off'}", *_changed_lines(changed)]
    for socket in control.sockets():
        rank = rank_of_socket(socket)
        if not listens(control, socket, timeout_s=_CONNECT_S):
            trainers.append({"rank": rank, "listens": False})
            lines.append(f"rank {rank}: no trainer listens; it ended without closing its loader")
            continue
        answer = ask(control, socket, timeout_s=timeout)
        pid, machine = _controller(control, socket), _machine_of(control, rank)
        told = {"step": answer.step, "settings": answer.settings.model_dump(), "controller": pid}
        trainers.append({"rank": rank, "listens": True, **told})
        controller = "no controller" if pid is None else f"controller {pid}"
        report = read_report(run, rank)
        if pid is not None and report is not None:
            trainers[-1] |= {"phase": report.phase, "shortage": report.shortage}
            why = f", gives memory back: {report.shortage}" if report.shortage else ""
            controller += f" ({report.phase}{why})"
        lines.append(f"rank {rank}{machine}: {settings_line(run, answer)}; {controller}")
    if json:
        said = {name: {"value": each.value, "by": each.by} for name, each in changed.items()}
        typer.echo(
            json_text.dumps({"is_on": is_on, "changed": said, "trainers": trainers}, indent=2)
        )
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
    from rudder.training.control.steering import BUDGET_FILE
    from rudder.training.options import parse_bytes

    try:
        num_bytes = parse_bytes(size)
    except ValueError:
        raise ConfigError.for_field("budget", value=size, allowed="512MiB, 2GiB, 5000") from None
    control_in_use(run).write(BUDGET_FILE, f"{num_bytes}\n")
    typer.echo(f"buffers of a host may take {figures.mebibytes(num_bytes)}")
    if problem := _why_no_buffer(run, num_bytes):
        typer.echo(problem, err=True)


@app.command()
def objective(
    run: RunOption,
    aim: Annotated[
        ObjectiveName,
        typer.Argument(help="What to optimise.", show_default=False),
    ],
) -> None:
    """Change what a running job's agents seek, from their next decision on.

    Example: rudder steer objective --run runs/demo traffic
    """
    from rudder.training.control.steering import OBJECTIVE_FILE, HostSetting

    control_in_use(run).write(OBJECTIVE_FILE, str(HostSetting(aim)))
    typer.echo(f"the objective is {aim} from the agents' next decision on")


def control_in_use(run: Path) -> Control:
    """Where a run's sockets and switches are; raises ConfigError for a run that is over."""
    control = control_for(run)
    if isinstance(control, LocalControl) and not (run / "control").is_dir():
        raise ConfigError(
            f"run = {str(run)!r} is not a run that is training now",
            remedy="name a run that is training; this one is over, or has not started",
        )
    sockets = control.sockets()
    if sockets and not any(listens(control, socket, timeout_s=_CONNECT_S) for socket in sockets):
        names = ", ".join(socket.stem for socket in sockets)
        raise ConfigError(
            f"none of the trainers of run = {str(run)!r} ({names}) listens on this machine: they"
            " run elsewhere, crashed, were killed, or ended without closing their loaders",
            remedy="if the run goes on, give this command on a machine that trains;"
            f" `rudder audit list {run}` shows what was done",
        )
    return control


def _changed(control: Control) -> dict[str, HostSetting]:
    """What a person or the schedule has changed for all trainers, by the option's name."""
    from rudder.training.control.steering import BUDGET_FILE, OBJECTIVE_FILE, HostSetting

    files = {"objective": OBJECTIVE_FILE, "memory_budget": BUDGET_FILE}
    said = {name: HostSetting.parse(control.read(file)) for name, file in files.items()}
    return {name: each for name, each in said.items() if each.value is not None}


def _changed_lines(changed: dict[str, HostSetting]) -> Iterator[str]:
    from rudder.cli.show import figures

    for name, each in changed.items():
        value = str(each.value)
        shown = figures.mebibytes(int(value)) if value.isdecimal() else value
        who = "the schedule" if each.by == "schedule" else "a person"
        yield f"{name.replace('_', ' ')}: {shown}, set by {who}"


def _machine_of(control: Control, rank: int) -> str:
    return f" on {control.hosts[rank]}" if rank < len(control.hosts) else ""


def _why_no_buffer(run: Path, num_bytes: int) -> str | None:
    """Why the budget leaves no buffer, as far as the run's record tells how large a row is."""
    from rudder.training.machine import why_no_buffer

    work = workload_of(run, 0)
    if work is None:
        return None
    return why_no_buffer(num_bytes, trainers=work.trainers_on_host, row_bytes=work.row_bytes)


def _controller(control: Control, socket: Path) -> int | None:
    """The process id of a trainer's controller, on the trainer's machine; None where none runs.

    The file of a controller that was killed stays. What is on another machine is not looked at:
    its agent sends the file while it is there.
    """
    from rudder.training.control.controller_process import pid_file_of

    try:
        pid = int(control.read(pid_file_of(socket).name) or "")
        if not control.hosts:
            os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid
