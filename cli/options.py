"""Options that commands share, and checks of the files that a user names."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from rudder.memory.run.run_reader import FOLDER
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


Command = TypeVar("Command", bound=Callable[..., object])
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunFolder = Annotated[Path, typer.Option("--run", help="Folder of the run.", show_default=False)]
LlmModel = Annotated[
    str | None, typer.Option("--model", "--llm-model", help="Name of the language model.")
]


def option(
    name: str, kind: Any, *, text: str, panel: str, least: int | None = None
) -> inspect.Parameter:
    """An option for `with_options`, None where it is not given.

    name: of the keyword; kind: its type; text, panel: of `--help`; least: value.
    """
    annotated: Any = Annotated
    told = typer.Option(help=text, rich_help_panel=panel, min=least)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotated[kind, told]
    )


def with_options(options: Sequence[inspect.Parameter]) -> Callable[[Command], Command]:
    """Give a command these options; it receives them as its `**` keywords."""

    def add(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        named = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
        places = [each for each in named if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        signature = inspect.Signature([*places, *options, *[n for n in named if n not in places]])
        command.__dict__["__signature__"] = signature
        command.__annotations__ = {
            name: each.annotation for name, each in signature.parameters.items()
        }
        return command

    return add


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


Where = Annotated[Path, typer.Argument(help="Folder of a run, or one rank's file.")]
Rank = Annotated[int | None, typer.Option(help="Rank.", min=0)]
Wide = Annotated[
    bool, typer.Option("--wide", help="One line a row, with whole ids, times and contents.")
]
_Kind = Literal["call", "result", "intent", "effect", "note", "record"]
_Agent = Literal["observer", "planner", "critic", "guard", "act", "user", "trainer"]
_Outcome = Literal[
    "answered", "staged", "approved", "refused", "applied", "confirmed", "reverted", "expired",
    "failed",
]  # fmt: skip
_ROWS = "Which rows"
FILTERS = [
    option("run", str | None, text="Key of the run.", panel=_ROWS),
    option("rank", int | None, text="Rank.", panel=_ROWS, least=0),
    option(
        "kind", _Kind | None, text="Kind of row; `record` is shown only if asked for.", panel=_ROWS
    ),
    option("agent", _Agent | None, text="Who called or did something.", panel=_ROWS),
    option("tool", str | None, text="Name of the tool.", panel=_ROWS),
    option("outcome", _Outcome | None, text="What came of it.", panel=_ROWS),
    option("episode", str | None, text="Id of the episode, or its beginning.", panel=_ROWS),
    option("since", datetime | None, text="From this time on (UTC).", panel=_ROWS),
    option("until", datetime | None, text="Up to this time (UTC).", panel=_ROWS),
    option("steps", str | None, text="Steps FIRST:LAST; either may be left out.", panel=_ROWS),
]


def rows_that_fit(
    *, run: str | None, since: datetime | None, until: datetime | None, steps: str | None,
    **equal: Any,
) -> AuditFilter:  # fmt: skip
    """The FILTERS as a filter; raises ConfigError for steps that are none."""
    from rudder.memory.run.audit import AuditFilter
    from rudder.memory.store import stored

    first, last = _steps(steps)
    return AuditFilter(
        run_key=run,
        since=stored(since) if since else None,
        until=stored(until) if until else None,
        first_step=first,
        last_step=last,
        **equal,
    )


def _steps(text: str | None) -> tuple[int | None, int | None]:
    from rudder.training.errors import ConfigError

    first, colon, last = (text or "").partition(":")
    ends = (first, last if colon else first)
    if any(end and not end.isdecimal() for end in ends):
        raise ConfigError.for_field("steps", value=text, allowed="FIRST:LAST, as in 100:200")
    return int(ends[0]) if ends[0] else None, int(ends[1]) if ends[1] else None
