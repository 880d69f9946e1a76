"""`rudder set`: change the buffer of a running trainer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.cli.options import AsJson, RunOption
from rudder.training.control.door import Control, LocalControl, control_of, rank_of_socket
from rudder.training.errors import ConfigError, RudderError

if TYPE_CHECKING:
    from rudder.training.settings import Applied, Change
    from rudder.training.workload import Workload


def set_(
    run: RunOption,
    rank: Annotated[
        int | None, typer.Option(help="Trainer to change; default: all of them.", min=0)
    ] = None,
    capacity: Annotated[
        int | None, typer.Option(help="Rows that the buffer may hold.", min=0)
    ] = None,
    eviction_threshold: Annotated[
        float | None,
        typer.Option(
            help="Rows used more often per batch than this are not evicted.", min=0, max=1
        ),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(help="Batches to sample ahead.", min=0, max=1024)
    ] = None,
    replacement_interval: Annotated[
        int | None,
        typer.Option(
            help="Batches between replacement rounds of score; 0: only on request.", min=0
        ),
    ] = None,
    fetch: Annotated[
        Literal["observed", "degree", "vip", "hot_set", "owner", "ids"] | None,
        typer.Option(help="Fetch rows into the buffer now, chosen in this way."),
    ] = None,
    fetch_rows: Annotated[
        int, typer.Option(help="Most rows that --fetch brings in.", min=1)
    ] = 1000,
    fetch_owner: Annotated[
        int | None,
        typer.Option(help="With --fetch owner: the partition whose rows are fetched.", min=0),
    ] = None,
    fetch_ids: Annotated[
        str | None, typer.Option(help="With --fetch ids or hot_set: global node ids.")
    ] = None,
    replace_now: Annotated[
        bool, typer.Option("--replace-now", help="Run one replacement round.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0)] = 10.0,
    json: AsJson = False,
) -> None:
    """Change a running trainer's buffer; without a change, show the settings in force.

    Example: rudder set --run runs/demo --rank 0 --capacity 20000
    """
    from rudder.training.settings import FetchTargets

    targets = None
    if fetch is not None:
        targets = FetchTargets(
            source=fetch, row_budget=fetch_rows, owner=fetch_owner, ids=_ids(fetch_ids)
        )
    change = _change(
        capacity_rows=capacity,
        eviction_threshold=eviction_threshold,
        lookahead_batches=lookahead,
        replacement_interval=replacement_interval,
        fetch_targets=targets,
        replace_now=replace_now,
    )
    control = control_for(run)
    sockets = sockets_of(control, run, rank)
    for each in map(rank_of_socket, sockets):
        _check_capacity(capacity, workload_of(run, each), rank=each)
    answers: list[Applied] = []
    for socket in sockets:
        answers.append(ask(control, socket, change, timeout_s=timeout))
        said = f"rank {answers[-1].rank} {settings_line(run, answers[-1], change)}"
        typer.echo(answers[-1].model_dump_json() if json else said)
    refused = [answer for answer in answers if answer.outcome == "refused"]
    if refused:
        raise ConfigError(
            f"rank {refused[0].rank} refused the change: {refused[0].reason}",
            remedy="change the value; what was in force before still is",
        )


def _change(**knobs: object) -> Change:
    """The change that the options ask for; raises ConfigError that names what is out of range."""
    from pydantic import ValidationError

    from rudder.training.settings import Change

    try:
        return Change.model_validate(knobs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError.for_field(name, value=first["input"], allowed=first["msg"]) from None


def _ids(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError.for_field(
            "fetch_ids", value=text, allowed="whole numbers with commas between them"
        ) from None


def _check_capacity(capacity: int | None, work: Workload | None, *, rank: int) -> None:
    """Raise ConfigError for more rows than the rank has remote nodes, where its record says."""
    if capacity is not None and work is not None and capacity > work.num_remote:
        raise ConfigError.for_field(
            "capacity",
            value=capacity,
            allowed=f"0 to {work.num_remote} rows, the remote nodes of rank {rank}",
        )


# -- shared with `rudder steer` and `rudder mcp` -----------------------------------------------


def control_for(run: Path) -> Control:
    """The control folder of a run, on this machine or behind its launcher's door.

    Raises ConfigError where it is on the disk of a machine that nothing leads to.
    """
    folder, control = run / "control", control_of(run)
    if isinstance(control, LocalControl) and folder.is_symlink() and not folder.exists():
        raise ConfigError(
            f"the control sockets of {run} were in {folder.readlink()}, which this machine does"
            " not have",
            remedy="give this command on the machine of the trainer; if that has no such folder"
            " either, the run is over",
        )
    return control


def sockets_of(control: Control, run: Path, rank: int | None) -> list[Path]:
    """The socket of a trainer, or of all; raises ConfigError, or RudderError for none at all."""
    found = control.sockets()
    chosen = [path for path in found if rank is None or rank_of_socket(path) == rank]
    if chosen:
        return chosen
    if found:
        known = ", ".join(str(rank_of_socket(path)) for path in found)
        raise ConfigError.for_field("rank", value=rank, allowed=f"the trainers of the run: {known}")
    raise RudderError(
        f"no trainer listens in {run}: the run is over, has not started, or uses --loader stock",
        remedy="give the folder of a run that is training now",
    )


def ask(
    control: Control, socket: Path, change: Change | None = None, *, timeout_s: float
) -> Applied:
    """Send a change to a trainer, or only ask for its settings."""
    from rudder.training.control.messages import send_command
    from rudder.training.settings import Change, Command

    command = Command(command_id=uuid.uuid4().hex, change=change or Change())
    return send_command(socket, command, timeout_s, connect=control.connect)


def workload_of(run: Path, rank: int) -> Workload | None:
    """What a rank works on, where the run keeps a record."""
    from rudder.memory.run.run_reader import RunReader, run_file

    try:
        with RunReader(run_file(run, rank=rank)) as reader:
            return next(reversed(reader.workloads().values()), None)
    except RudderError:
        return None


def settings_line(run: Path, answer: Applied, change: Change | None = None) -> str:
    """What became of a change, and the settings in force."""
    from rudder.cli.show import figures

    settings, work = answer.settings, workload_of(run, answer.rank)
    is_asked = change is None or change.is_empty
    size = ""
    if work is not None:
        size = f" ({figures.mebibytes(settings.capacity_rows * work.row_bytes)})"
    return (
        f"{'in force' if is_asked else answer.outcome} from step {answer.step:,}:"
        f" capacity {settings.capacity_rows:,} rows{size},"
        f" lookahead {settings.lookahead_batches} batches,"
        f" eviction threshold {settings.eviction_threshold:g}"
    )
