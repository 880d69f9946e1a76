"""`rudder runs`: which runs there are, what came of them, and how they differ."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import to_json

from rudder.cli.help import App
from rudder.cli.options import AsJson, FolderOfRun, run_folders, writing_to
from rudder.cli.show.progress import emit, say
from rudder.training.errors import ConfigError

if TYPE_CHECKING:
    from rudder.memory.run.run_folder import RunFacts

app = App("List, show, compare, wait for, export and remove runs, also those that train now.")
Folder = Annotated[Path, typer.Option("--folder", help="Folder in which the runs are.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders of runs.", autocompletion=run_folders)]
RUNS = Path("runs")
_TIMED_OUT = 124
"""As of `timeout` of coreutils."""


@app.command("list")
def list_(
    folder: Folder = RUNS,
    live: Annotated[bool, typer.Option("--live", help="Only runs that train now.")] = False,
    json: AsJson = False,
) -> None:
    """List the runs of a folder, the newest first.

    Example: rudder runs list --live
    """
    from rudder.cli.show.runs import run_table
    from rudder.memory.run.run_folder import RunFacts, find_runs

    facts = [RunFacts.of(run) for run in find_runs(folder)]
    shown = [each for each in facts if each.state == "live" or not live]
    if shown or json:
        emit([asdict(each) for each in shown], run_table(shown), json=json)
    else:
        say(f"no run {'trains now' if live else 'is'} in {folder}; `rudder train` starts one")


@app.command("show")
def show(run: FolderOfRun, json: AsJson = False) -> None:
    """Show what a run was asked for, and what has come of it.

    Example: rudder runs show runs/demo
    """
    _show([run], json=json)


@app.command("compare")
def compare(runs: Runs, json: AsJson = False) -> None:
    """Show runs side by side; the speed-up compares with the first one.

    Example: rudder runs compare runs/stock runs/demo
    """
    _show(runs, json=json)


@app.command("wait")
def wait(
    run: FolderOfRun,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which the exit code is 124.", min=0)
    ] = None,
) -> None:
    """Wait until a run is over, and print what has come of it as a line of JSON.

    Exit code 0: it finished, or it is a script of your own and is over; 75: it was stopped, or
    killed, and `rudder train --resume` goes on with it; 5: it failed. `summary.json` in its folder
    has all figures.

    Example: rudder runs wait runs/demo
    """
    from rudder.cli.detached import wait_for
    from rudder.memory.run.run_folder import RunFacts, StoredRun
    from rudder.training.checkpoint.format import checkpoints_of
    from rudder.training.errors import RunError, StoppedError

    if not wait_for(StoredRun(run), timeout_s=timeout):
        say(f"{run} still trains after {timeout:g} s")
        raise typer.Exit(_TIMED_OUT)
    facts = RunFacts.of(StoredRun(run))
    typer.echo(to_json(facts).decode())
    if facts.state not in ("finished", "over"):
        goes_on = facts.state == "cut short" and checkpoints_of(run)
        raise typer.Exit((StoppedError if goes_on else RunError).exit_code)


@app.command("export")
def export(
    run: FolderOfRun,
    out: Annotated[Path, typer.Argument(help="New SQLite file.")],
    json: AsJson = False,
) -> None:
    """Copy the records of all ranks into one SQLite file, for SQL and Datasette.

    Every table has the column `rank`. `rudder memory queries` has queries for it.

    Example: rudder runs export runs/demo run.db
    """
    from rudder.memory.run.export import export_run
    from rudder.memory.run.run_reader import run_files

    if out.exists():
        raise ConfigError(f"{out} exists already", remedy="name a new file, or remove that one")
    with writing_to(out, name="out"):
        counts = export_run(run_files(run), out)
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    emit(counts, f"{out}: {told}", json=json)


@app.command("rm")
def rm(
    runs: Runs,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
) -> None:
    """Remove the folders of runs, with their records, checkpoints and models.

    A run that trains now is refused. Episodes in memory.db stay.

    Example: rudder runs rm runs/demo --yes
    """
    for facts in _facts(runs):
        if facts.state == "live":
            raise ConfigError(f"{facts.folder} trains now", remedy="end it first: Ctrl-C, or kill")
    for run in runs:
        if yes or typer.confirm(f"remove {run} and all that is in it?"):
            with writing_to(run, name="runs"):
                shutil.rmtree(run)
            say(f"removed: {run}")


def _show(runs: list[Path], *, json: bool) -> None:
    from rudder.cli.show.runs import comparison

    facts = _facts(runs)
    emit([asdict(each) for each in facts], comparison(facts), json=json)


def _facts(runs: list[Path]) -> list[RunFacts]:
    from rudder.memory.run.run_folder import RunFacts, StoredRun

    return [RunFacts.of(StoredRun(run)) for run in runs]
