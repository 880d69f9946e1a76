"""The `rudder` command and what all its commands share: errors end in one line, not a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from rudder.cli.help import App
from rudder.cli.show.progress import Verbosity, keep_streams_open, say
from rudder.training.errors import MachineError, RudderError
from rudder.training.versions import own_version

COMMANDS = {
    "demo": "demo.demo",
    "train": "train.train",
    "predict": "predict.predict",
    "prepare": "prepare.prepare",
    "data": "data.data",
    "mcp": "mcp.mcp",
    "host": "host.host",
    "top": "watch.top",
    "diagnose": "watch.diagnose",
    "ask": "ask.ask",
    "report": "report.report",
    "runs": "runs.app",
    "plan": "plan.plan",
    "set": "settings.set_",
    "simulate": "policies.simulate",
    "doctor": "doctor.doctor",
    "bench": "bench.app",
    "steer": "steer.app",
    "graph": "graph.graph",
    "tools": "tools.app",
    "memory": "memory.app",
    "audit": "audit.app",
    "explain": "explain.explain",
    "fit": "fit.fit",
    "replay": "replay.replay",
}
"""Each command, with the module of `cli/commands` and the function, or the group, that it is."""


def make_app(names: Sequence[str] = tuple(COMMANDS)) -> App:
    """The command line with some commands, or with all: to import those takes seconds."""
    app = App("Train GNNs on DistDGL with a prefetch buffer that agents steer.", completion=True)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(".")
        command = getattr(import_module(f"rudder.cli.commands.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    app.callback()(_root)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rudder {own_version()}")
        raise typer.Exit


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
        _app_for(sys.argv, os.environ)()
    except RudderError as error:
        say(f"error: {error}", least=Verbosity.QUIET)
        return error.exit_code
    except OSError as error:
        from rudder.training.machine import as_machine_error

        if (full := as_machine_error(error)) is None:
            raise
        say(f"error: {full}", least=Verbosity.QUIET)
        return full.exit_code
    except SystemExit as ended:
        return ended.code
    return 0


def _app_for(arguments: Sequence[str], variables: Mapping[str, str]) -> App:
    """The app with the command that is called, or whose words a shell completes, else with all.

    While a shell completes the command itself, the others have names only.
    """
    typed = (variables.get("COMP_WORDS") or variables.get("_TYPER_COMPLETE_ARGS") or "").split()
    named = (typed or arguments)[1:2]
    if named and named[0] in COMMANDS:
        return make_app(named)
    if not typed:
        return make_app()
    app = make_app([])
    for name in COMMANDS:
        app.command(name)(_nothing)
    return app


def _nothing() -> None:
    """Stands for a command of which only the name is needed."""
