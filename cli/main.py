"""The `rudder` command and what all its commands share: errors end in one line, not a traceback."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rudder.cli.commands import (
    audit,
    bench,
    data,
    doctor,
    explain,
    fit,
    graph,
    host,
    mcp,
    memory,
    policies,
    predict,
    prepare,
    replay,
    report,
    runs,
    settings,
    steer,
    tools,
    train,
    watch,
)
from rudder.cli.help import App
from rudder.cli.show.progress import keep_streams_open, say
from rudder.training.errors import MachineError, RudderError
from rudder.training.versions import own_version

app = App("Train GNNs on DistDGL with a prefetch buffer that agents steer.")
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("prepare")(prepare.prepare)
app.command("data")(data.data)
app.command("mcp")(mcp.mcp)
app.command("host")(host.host)
app.command("top")(watch.top)
app.command("diagnose")(watch.diagnose)
app.command("report")(report.report)
app.add_typer(runs.app, name="runs")
app.command("set")(settings.set_)
app.command("simulate")(policies.simulate)
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.add_typer(steer.app, name="steer")
app.command("graph")(graph.graph)
app.add_typer(tools.app, name="tools")
app.add_typer(memory.app, name="memory")
app.add_typer(audit.app, name="audit")
app.command("explain")(explain.explain)
app.command("fit")(fit.fit)
app.command("replay")(replay.replay)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rudder {own_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Train GNNs on DistDGL with a prefetch buffer that agents steer."""


def main() -> None:
    """Run the command line; a RudderError ends it with its own exit code.

    Who reads the output does not matter to the exit code: a closed pipe is no failure. Results that
    a full disk did not take are one.
    """
    out = keep_streams_open()
    code = _exit_code()
    sys.stdout.flush()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        say(f"error: standard output cannot be written: {out.error.strerror}")
        say("  what to do: make room; files of the command, such as summary.json, are complete")
        code = code or MachineError.exit_code
    sys.exit(code)


def _exit_code() -> int | str | None:
    try:
        app()
    except RudderError as error:
        say(f"error: {error}")
        return error.exit_code
    except SystemExit as ended:
        return ended.code
    return 0
