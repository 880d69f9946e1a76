"""`rudder host`: the agent of a machine, for schedulers that start something on every machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

HeadOption = Annotated[
    str | None,
    typer.Option(
        help="ADDRESS:PORT of the launcher. Default: RUDDER_HEAD, else standard input and output."
    ),
]


def host(*, head: HeadOption = None) -> None:
    """Start and watch the processes of one run on this machine, as its launcher says.

    `rudder train` starts it over ssh and srun by itself. Where a scheduler starts something on
    every machine, run `rudder train --launcher env` on the first and this on the others, with
    RUDDER_HEAD and RUDDER_TOKEN set to the same values everywhere.

    Example: rudder host --head 10.0.0.1:29400
    """
    from rudder.training.hosts.agent import run_agent

    run_agent(head or os.environ.get("RUDDER_HEAD"))
