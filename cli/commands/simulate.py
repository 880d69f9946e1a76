"""`rudder simulate`: what other policies and capacities would have fetched in a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.options import CAPACITIES, LOOKAHEAD, AsJson, Capacities, Lookaheads, WarmEpochs


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
    capacity: Capacities = CAPACITIES,
    lookahead: Lookaheads = LOOKAHEAD,
    warm_epochs: WarmEpochs = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw rows fetched against capacity (.png, .svg, .pdf).")
    ] = None,
    json: AsJson = False,
) -> None:
    """Replay recorded runs through buffer policies and the theoretical limit, without a cluster.

    Example: rudder simulate runs/demo --capacity 0.05,0.25 --picture demo.png
    """
    from pydantic import TypeAdapter

    from rudder.cli.show import policies as traffic
    from rudder.cli.show.policies import check_picture, draw_traffic
    from rudder.cli.show.progress import say
    from rudder.training.simulate.study import Traffic

    asked = traffic.question(policies, capacity, lookahead, warm_epochs=warm_epochs)
    if picture is not None:
        check_picture(picture)
    recordings, rows = traffic.simulate(trace, asked)
    for recording in recordings:
        if not recording.is_whole:
            say(f"rank {recording.header.rank} was killed: {recording.num_observed} batches read")
    title = f"Rows fetched of {', '.join(map(str, trace))}"
    if picture is not None:
        draw_traffic(rows, picture, title=title)
    if json:
        typer.echo(TypeAdapter(list[Traffic]).dump_json(rows, indent=2).decode())
    else:
        traffic.print_traffic(rows, title=title)
