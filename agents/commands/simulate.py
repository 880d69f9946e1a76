"""`rudder simulate`: what other policies and capacities would have fetched in a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    trace: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of `rudder train --record-trace`, or trace files; summed.",
            show_default=False,
        ),
    ],
    policies: Annotated[
        str, typer.Option(help="Policies with commas between them; OPT is always there.")
    ] = "lookahead",
    capacity: Annotated[
        str, typer.Option(help="Shares of the halo (0.25), rows (20000) or bytes (64MiB).")
    ] = "0.05,0.15,0.25,0.5",
    lookahead: Annotated[str, typer.Option(help="Batches seen ahead.")] = "16",
    warm_epochs: Annotated[
        int, typer.Option(help="Epochs at the start that are replayed, not counted.", min=0)
    ] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw rows fetched against capacity (.png, .svg, .pdf).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Replay recorded runs through buffer policies and the theoretical limit, without a cluster.

    Example: rudder simulate runs/demo --capacity 0.05,0.25 --picture demo.png
    """
    from pydantic import TypeAdapter

    from rudder.agents import traffic
    from rudder.agents.plots import check_picture, draw_traffic
    from rudder.agents.progress import say
    from rudder.training.simulate.study import Traffic

    asked = traffic.question(policies, capacity, lookahead, warm_epochs=warm_epochs)
    if picture is not None:
        check_picture(picture)
    recordings, rows = traffic.simulate(trace, asked)
    for recording in recordings:
        if not recording.is_whole:
            say(f"rank {recording.header.rank} was killed: {recording.num_observed} batches read")
    title = f"Rows fetched of {', '.join(map(str, trace))}"
    if json:
        typer.echo(TypeAdapter(list[Traffic]).dump_json(rows, indent=2).decode())
    else:
        traffic.print_traffic(rows, title=title)
    if picture is not None:
        draw_traffic(rows, picture, title=title)
