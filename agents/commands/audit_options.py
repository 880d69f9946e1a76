"""The options of `rudder audit` that say which rows are wanted, and how."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rudder.memory.audit import AuditFilter

Where = Annotated[Path, typer.Argument(help="Folder of a run, or one rank's file.")]
Run = Annotated[str | None, typer.Option("--run", help="Key of the run.")]
Rank = Annotated[int | None, typer.Option(help="Rank.", min=0)]
Kind = Annotated[
    Literal["call", "result", "intent", "effect", "note"] | None, typer.Option(help="Kind of row.")
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
    from rudder.memory.audit import AuditFilter
    from rudder.memory.clock import stored

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
