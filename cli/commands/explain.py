"""`rudder explain`: one decision on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.options import AsJson, check_memory_file, check_run
from rudder.cli.show.episode import episode_page, recorded_page
from rudder.memory.past.experience import Catalog
from rudder.memory.run.run_reader import FOLDER, read_runs, run_files
from rudder.training.errors import ConfigError, DataError
from rudder.training.steering_options import default_memory


def explain(
    episode: Annotated[str, typer.Argument(help="Id of the episode, or the beginning of one.")],
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: the newest in runs/ with this episode."),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(
            help="Memory to search if no run has it; default: memory.db in the data folder."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Print questions to models and answers in full.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show one decision: what agents saw, recalled, proposed and objected, and what it changed.

    Example: rudder explain 5a4d91e0-0-3 --run runs/demo
    """
    if run is not None:
        check_run(run, name="run")
    if memory is not None:
        check_memory_file(memory)
    text = _from_runs(episode, run, whole=whole, json=json)
    text = text or _from_memory(episode, memory, json=json)
    if text is None:
        raise ConfigError(
            f"no episode {episode} in {run or 'runs/'} or in the memory",
            remedy="name the run with --run; `rudder audit list RUN` shows ids",
        )
    typer.echo(text)


def _from_runs(name: str, run: Path | None, *, whole: bool, json: bool) -> str | None:
    """Of the newest run that has it."""
    folders = [path.parent for path in Path("runs").glob(f"*/{FOLDER}")] if run is None else [run]
    for folder in sorted(folders, reverse=True):
        pages: dict[str, str] = {}
        for reader in read_runs(run_files(folder)):
            if (found := reader.episode(name)) is not None:
                as_json = found.model_dump_json(indent=2)
                pages[found.episode_id] = (
                    as_json if json else recorded_page(reader, found, whole=whole)
                )
        if len(pages) > 1 and name not in pages:
            raise DataError(
                f"several episodes begin with {name}: {', '.join(sorted(pages))}",
                remedy="give more of the id",
            )
        if pages:
            return pages.get(name) or pages.popitem()[1]
    return None


def _from_memory(name: str, memory: Path | None, *, json: bool) -> str | None:
    path = memory or default_memory()
    if not path.exists():
        return None
    with Catalog(path) as catalog:
        found = catalog.find(name)
    if len(found) != 1:
        return None
    past = found[0]
    if json:
        return past.episode.model_dump_json(indent=2)
    return episode_page(past.episode, workload=past.workload)
