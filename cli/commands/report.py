"""`rudder report`: runs as a page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.options import run_folders, writing_to


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs, side by side on the page.", autocompletion=run_folders
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write; default: report.html in the folder of the run."
        ),
    ] = None,
) -> None:
    """Write runs as one page of HTML: measurements over time, decisions, summary and settings.

    The page needs no network. Each run writes its own at its end; several runs share their axes.

    Example: rudder report runs/demo runs/stock -o both.html
    """
    from rudder.cli.show.report import FILE_NAME, write_report
    from rudder.memory.run.run_folder import StoredRun

    folders = [StoredRun(run) for run in runs]
    path = out or (runs[0] / FILE_NAME if len(runs) == 1 else Path(FILE_NAME))
    with writing_to(path, name="out"):
        write_report(folders, path)
    typer.echo(path)
