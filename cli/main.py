"""The `rudder` command and what all its commands share: errors end in one line, not a traceback."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from rudder.cli.commands import (
    audit,
    bench,
    doctor,
    explain,
    fit,
    graph,
    memory,
    prepare,
    replay,
    settings,
    simulate,
    steer,
    tools,
    train,
)
from rudder.training.errors import RudderError

app = typer.Typer(
    name="rudder",
    help="Train GNNs on DistDGL with a prefetch buffer that agents steer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("train")(train.train)
app.command("prepare")(prepare.prepare)
app.command("set")(settings.set_)
app.command("simulate")(simulate.simulate)
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.add_typer(steer.app, name="steer")
app.command("graph")(graph.graph)
app.command("tools")(tools.tools)
app.add_typer(memory.app, name="memory")
app.add_typer(audit.app, name="audit")
app.command("explain")(explain.explain)
app.command("fit")(fit.fit)
app.command("replay")(replay.replay)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rudder {importlib.metadata.version('rudder-gnn')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Train GNNs on DistDGL with a prefetch buffer that agents steer."""


def main() -> None:
    """Run the command line; a RudderError ends it with its own exit code."""
    try:
        app()
    except RudderError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
