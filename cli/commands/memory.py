"""`rudder memory`: the episodes of all runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from rudder.cli.help import App
from rudder.cli.options import AsJson, check_memory_file, check_run, writing_memory, writing_to
from rudder.cli.show.episode import episode_page
from rudder.cli.show.memory import memory_table
from rudder.cli.show.progress import emit, say
from rudder.memory import pages
from rudder.memory.past import transfer
from rudder.memory.past.experience import Added, Catalog, Experience
from rudder.training.errors import ConfigError
from rudder.training.steering_options import default_memory

app = App("Manage the episodes of all runs, which later runs learn from.")

MemoryOption = Annotated[
    Path | None,
    typer.Option("--memory", help="Memory file; default: memory.db in the data folder."),
]
OriginOption = Annotated[str | None, typer.Option(help="Only episodes of this origin.")]


@app.command("list")
def list_(
    result: Annotated[
        Literal["confirmed", "reverted", "refused", "expired", "kept", "abandoned"] | None,
        typer.Option(help="Only episodes with this result."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Only episodes of the run whose key begins so.")
    ] = None,
    origin: OriginOption = None,
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1)] = 20,
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """List episodes, the newest first.

    Example: rudder memory list --result confirmed
    """

    with Catalog(_known(memory)) as catalog:
        lines = catalog.lines(result=result, run_key=run, origin=origin, limit=limit)
    if lines or json:
        emit(lines, memory_table(lines), json=json)
    else:
        say("no episode matches; `rudder memory stats` counts what there is")


@app.command("show")
def show(
    episode: Annotated[str, typer.Argument(help="Id, or the beginning of one.")],
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Show one episode with its workload.

    Example: rudder memory show 5a4d91e0-0-3
    """
    with Catalog(_known(memory)) as catalog:
        found = catalog.find(episode)
    if len(found) != 1:
        problem = "several episodes are" if found else "no episode is"
        raise ConfigError(f"{problem} called {episode}", remedy="see `rudder memory list`")
    emit(found[0], episode_page(found[0].episode, workload=found[0].workload), json=json)


@app.command("merge")
def merge(
    sources: Annotated[
        list[Path], typer.Argument(help="Run folders, ranks' files, or other memories.")
    ],
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Add the finished episodes of runs. Those of another memory are not used until trusted.

    Example: rudder memory merge runs/demo host2/rank1.db
    """
    for source in sources:
        check_run(source, name="sources")
    with writing_memory(_path(memory)) as path:
        added = sum((transfer.merge(path, source) for source in sources), Added())
    _print_added(added, json=json)


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="File to write; - for standard output.")],
    origin: OriginOption = None,
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Write episodes as lines of JSON.

    Example: rudder memory export episodes.jsonl
    """
    if str(out) == "-":
        transfer.export(_known(memory), sys.stdout, origin=origin)
        return
    known = _known(memory)
    with writing_to(out, name="out"), out.open("w") as file:
        count = transfer.export(known, file, origin=origin)
    emit({"episodes": count}, f"{count:,} episodes: {out}", json=json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `rudder memory export` wrote.")],
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Add episodes from elsewhere; they keep their origin and are not used until trusted.

    Example: rudder memory import episodes.jsonl
    """
    if not file.is_file():
        raise ConfigError.for_field("file", value=str(file), allowed="what `memory export` wrote")
    with file.open() as lines, writing_memory(_path(memory)) as path:
        added = transfer.import_(path, lines, name=str(file))
    _print_added(added, json=json)


@app.command("trust")
def trust(
    origin: Annotated[
        str, typer.Argument(help="Origin of the episodes, as `rudder memory stats` names it.")
    ],
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Let later runs use the episodes that were imported from an origin.

    Example: rudder memory trust memory-3f9a21c0
    """
    with writing_memory(_known(memory)) as path, Experience(path) as experience:
        count = experience.trust(origin)
    emit({"trusted": count}, f"{count:,} episodes are used from now on", json=json)


@app.command("prune")
def prune(
    keep: Annotated[int, typer.Option(help="Keep this many of the newest.", min=0)] = 100_000,
    origin: OriginOption = None,
    memory: MemoryOption = None,
    json: AsJson = False,
) -> None:
    """Delete the oldest episodes.

    Example: rudder memory prune --keep 10000
    """
    with writing_memory(_known(memory)) as path, Experience(path) as experience:
        count = experience.prune(keep=keep, origin=origin)
    emit({"dropped": count}, f"{count:,} episodes dropped", json=json)


@app.command("stats")
def stats(memory: MemoryOption = None, json: AsJson = False) -> None:
    """Count the episodes of each origin.

    Example: rudder memory stats
    """
    with Catalog(_known(memory)) as catalog:
        found = catalog.stats()
    lines = [
        f"{each.origin} ({'own' if each.is_own else 'imported'}): {each.episodes:,} episodes of"
        f" {each.runs:,} runs, {each.trusted:,} used; {each.confirmed:,} confirmed,"
        f" {each.reverted:,} reverted"
        for each in found
    ]
    emit(found, "\n".join(lines), json=json)


@app.command("sample")
def sample(
    run_dir: Annotated[Path, typer.Argument(help="New folder for the run.")],
    windows: Annotated[
        int, typer.Option(help="Windows of 16 steps that each rank trains.", min=4, max=10_000)
    ] = 60,
) -> None:
    """Record a run of two simulated trainers, steered by the real agents, to try commands with.

    Example: rudder memory sample runs/sample
    """
    if run_dir.exists():
        raise ConfigError(f"{run_dir} exists already", remedy="name a new folder")
    from rudder.bench.simulated.rehearsal import record_sample

    with writing_to(run_dir, name="run_dir"):
        run_dir.mkdir(parents=True)
    for path in record_sample(run_dir, windows=windows):
        typer.echo(path)


@app.command("schema")
def schema() -> None:
    """Print the tables of both kinds of files as Markdown, as in docs/schema.md.

    Example: rudder memory schema > docs/schema.md
    """
    typer.echo(pages.schema_page(), nl=False)


@app.command("queries")
def queries(
    datasette: Annotated[
        bool, typer.Option("--datasette", help="As a metadata file for Datasette.")
    ] = False,
) -> None:
    """Print example queries as Markdown, as in docs/queries.md, or for Datasette.

    Example: rudder memory queries --datasette > metadata.json
    """
    text = pages.datasette_metadata() if datasette else pages.queries_page()
    typer.echo(text, nl=False)


def _path(memory: Path | None) -> Path:
    return memory or default_memory()


def _known(memory: Path | None) -> Path:
    """A memory that is there, if it was named."""
    if memory is not None:
        check_memory_file(memory)
    return _path(memory)


def _print_added(added: Added, *, json: bool) -> None:
    for each in added.left_out:
        say(f"left out: {each}")
    values = {"new": added.new, "known": added.known, "left_out": added.left_out}
    emit(values, f"{added.new:,} episodes added, {added.known:,} were there", json=json)
    if added.left_out:
        raise typer.Exit(1)
