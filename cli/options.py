"""What a user names on the command line: checked before anything is opened, and named if wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rudder.memory.run.run_file import FOLDER
from rudder.training.errors import ConfigError, MachineError

if TYPE_CHECKING:
    from rudder.memory.run.audit import AuditFilter


Capacities = Annotated[
    str, typer.Option(help="Shares of the halo (0.25), rows (20000) or bytes (64MiB).")
]
CAPACITIES = "0.05,0.15,0.25,0.5"
LOOKAHEAD = "40"
Lookaheads = Annotated[str, typer.Option(help="Batches seen ahead.")]
WarmEpochs = Annotated[
    int, typer.Option(help="Epochs at the start that are replayed, not counted.", min=0)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that `rudder prepare` wrote; instead of --dataset.")
]
Network = Annotated[
    Literal["auto", "namespace", "loopback"], typer.Option(help="How hosts are kept apart.")
]
Repeats = Annotated[int, typer.Option(help="Rounds that count.", min=1)]
EpochsPerTurn = Annotated[
    int, typer.Option(help="Epochs of a variant before the next one's turn.", min=1)
]
NewFolder = Annotated[
    Path | None,
    typer.Option(help="New folder for results and logs; default: runs/bench-<time>."),
]
Graph = Annotated[str, typer.Option(help="Graph: see `rudder prepare --help`.")]
NumHosts = Annotated[int, typer.Option(help="Local hosts, one partition each.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Seeds per trainer and step. [dim]\\[default: 512][/dim]")
]
Fanout = Annotated[
    str | None, typer.Option(help="Neighbours per layer. [dim]\\[default: 5,10][/dim]")
]


def parts(name: str, text: str) -> list[str]:
    """The values, once each, in their order; raises ConfigError where there is none."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigError.for_field(name, value=text, allowed="values with commas between them")
    return list(dict.fromkeys(found))


def whole_numbers(
    name: str, text: str, *, at_least: int = 0, at_most: int = 2**31 - 1
) -> tuple[int, ...]:
    """The values as numbers; raises ConfigError where one is none, or out of bounds."""
    found = parts(name, text)
    if not all(part.isdecimal() and at_least <= int(part) <= at_most for part in found):
        allowed = f"whole numbers from {at_least} to {at_most}, with commas between them"
        raise ConfigError.for_field(name, value=text, allowed=allowed)
    return tuple(map(int, found))


Where = Annotated[Path, typer.Argument(help="Folder of a run, or one rank's file.")]
Run = Annotated[str | None, typer.Option("--run", help="Key of the run.")]
Rank = Annotated[int | None, typer.Option(help="Rank.", min=0)]
Kind = Annotated[
    Literal["call", "result", "intent", "effect", "note", "record"] | None,
    typer.Option(help="Kind of row; rows `record` are shown only if asked for."),
]
Agent = Annotated[
    Literal["observer", "planner", "critic", "guard", "act", "user", "trainer"] | None,
    typer.Option(help="Who called, or did something."),
]
Tool = Annotated[str | None, typer.Option(help="Name of the tool.")]
OutcomeOption = Annotated[
    Literal["answered", "staged", "approved", "refused", "applied", "confirmed", "reverted",
            "expired", "failed"] | None,
    typer.Option("--outcome", help="What came of it."),
]  # fmt: skip
EpisodeOption = Annotated[
    str | None, typer.Option("--episode", help="Id of the episode, or the beginning of one.")
]
Since = Annotated[datetime | None, typer.Option(help="From this time on (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Up to this time (UTC).")]
Steps = Annotated[str | None, typer.Option(help="Steps FIRST:LAST; either may be left out.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="One line a row: whole ids and times, all that is said.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def rows_that_fit(
    run: str | None, rank: int | None, kind: str | None, agent: str | None, tool: str | None,
    outcome: str | None, episode: str | None, since: datetime | None, until: datetime | None,
    steps: str | None,
) -> AuditFilter:  # fmt: skip
    """The options as a filter; raises ConfigError for steps that are none."""
    from rudder.memory.clock import stored
    from rudder.memory.run.audit import AuditFilter

    first, last = _steps(steps)
    return AuditFilter(
        run_key=run, rank=rank, kind=kind, agent=agent, tool=tool, outcome=outcome,
        episode=episode, since=stored(since) if since else None,
        until=stored(until) if until else None, first_step=first, last_step=last,
    )  # fmt: skip


def _steps(text: str | None) -> tuple[int | None, int | None]:
    from rudder.training.errors import ConfigError

    first, colon, last = (text or "").partition(":")
    ends = (first, last if colon else first)
    if any(end and not end.isdecimal() for end in ends):
        raise ConfigError.for_field("steps", value=text, allowed="FIRST:LAST, as in 100:200")
    return int(ends[0]) if ends[0] else None, int(ends[1]) if ends[1] else None


def check_run(path: Path, *, name: str) -> None:
    """Raise ConfigError unless `path` is a steered run's folder or a file.

    name: of the argument or option.
    """
    if not path.is_file() and not any((path / FOLDER).glob("rank*.db")):
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed=f"the folder of a steered run (with {FOLDER}/rankN.db), or one of these files",
            remedy="see what there is: `ls runs`; a run with --controller none has no record",
        )


def check_file(path: Path, *, name: str, allowed: str, remedy: str) -> None:
    """Raise ConfigError unless `path` is a file."""
    if not path.is_file():
        raise ConfigError.for_field(name, value=str(path), allowed=allowed, remedy=remedy)


def check_memory(path: Path) -> None:
    """Raise ConfigError unless there is a memory at `path`."""
    check_file(
        path,
        name="memory",
        allowed="a memory that exists",
        remedy="a first steered run makes one, or `rudder memory merge RUN --memory FILE`",
    )


@contextmanager
def writing_to(path: Path, *, name: str) -> Iterator[None]:
    """Say of what cannot be written which argument it was; raises ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed="a file that can be written",
            remedy=f"choose another place: {error.strerror}",
        ) from None


@contextmanager
def writing_memory(path: Path) -> Iterator[Path]:
    """Say of a memory that cannot be written why not; raises MachineError."""
    try:
        yield path
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise MachineError(
            f"{path} cannot be written: {why}",
            remedy="make room, give write access, or name another file with --memory",
        ) from None
