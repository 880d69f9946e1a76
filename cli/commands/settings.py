"""`rudder set`: change the buffer of a running trainer."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.training.errors import ConfigError, RudderError

if TYPE_CHECKING:
    from rudder.training.settings import Change


def set_(
    run: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    rank: Annotated[
        int | None, typer.Option(help="Trainer to change; default: all of them.", min=0)
    ] = None,
    capacity: Annotated[
        int | None, typer.Option(help="Rows that the buffer may hold.", min=0)
    ] = None,
    eviction_threshold: Annotated[
        float | None,
        typer.Option(help="Rows with more predicted uses per batch stay.", min=0, max=1),
    ] = None,
    lookahead: Annotated[
        int | None, typer.Option(help="Batches to sample ahead.", min=0, max=1024)
    ] = None,
    replacement_interval: Annotated[
        int | None,
        typer.Option(help="Batches between rounds of the policy score; 0: on request.", min=0),
    ] = None,
    fetch: Annotated[
        Literal["observed", "degree", "vip", "hot_set", "owner", "ids"] | None,
        typer.Option(help="Bring rows in eagerly, chosen from this source."),
    ] = None,
    fetch_rows: Annotated[int, typer.Option(help="At most so many of them.", min=1)] = 1000,
    fetch_owner: Annotated[
        int | None, typer.Option(help="The partition of --fetch owner.", min=0)
    ] = None,
    fetch_ids: Annotated[
        str | None, typer.Option(help="Global node ids of --fetch ids or hot_set.")
    ] = None,
    replace_now: Annotated[bool, typer.Option(help="Run one replacement round.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0)] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON lines.")] = False,
) -> None:
    """Change a running trainer's buffer; without a change, show the settings in force.

    Example: rudder set --run runs/demo --rank 0 --capacity 20000
    """
    from rudder.training.control.port import send_command
    from rudder.training.settings import Applied, Command, FetchTargets

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
    answers: list[Applied] = []
    for socket in _sockets(run, rank):
        command = Command(command_id=uuid.uuid4().hex, change=change)
        answers.append(send_command(socket, command, timeout))
        typer.echo(answers[-1].model_dump_json() if json else _line(answers[-1]))
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


def _sockets(run: Path, rank: int | None) -> list[Path]:
    found = sorted((run / "control").glob("rank*.sock"), key=lambda path: int(path.stem[4:]))
    chosen = [path for path in found if rank is None or path.stem == f"rank{rank}"]
    if chosen:
        return chosen
    if found:
        known = ", ".join(path.stem[4:] for path in found)
        raise ConfigError.for_field("rank", value=rank, allowed=f"the trainers of the run: {known}")
    raise RudderError(
        f"no trainer listens in {run}: the run is over, has not started, or uses --loader stock",
        remedy="give the folder of a run that is training now",
    )


def _line(answer: object) -> str:
    from rudder.training.settings import Applied

    assert isinstance(answer, Applied)
    settings = answer.settings
    return (
        f"rank {answer.rank} {answer.outcome} from step {answer.step}:"
        f" capacity {settings.capacity_rows} rows, lookahead {settings.lookahead_batches} batches,"
        f" eviction threshold {settings.eviction_threshold:g}"
    )
