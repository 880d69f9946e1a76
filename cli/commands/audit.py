"""`rudder audit`: the log of all calls, and whether it is as it was written."""

from __future__ import annotations

import json as json_text
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rudder.cli.help import App
from rudder.cli.options import FILTERS, AsJson, Rank, Where, Wide, rows_that_fit, with_options

if TYPE_CHECKING:
    from rudder.memory.run.audit import AuditFilter, AuditRow, Head
    from rudder.memory.run.run_reader import RunReader


app = App("Read and verify the log of all that the agents did, in RUN/steering/rankN.db.")


@app.command("list")
@with_options(FILTERS)
def list_(
    where: Where,
    *,
    last: Annotated[
        int | None, typer.Option(help="Only the last rows of each rank, this many.", min=1)
    ] = None,
    wide: Wide = False,
    json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    **only: Any,
) -> None:
    """List rows of the log, rank by rank, with ids that `rudder explain` takes.

    Example: rudder audit list runs/demo --agent act --outcome applied
    """
    from rudder.cli.show import audit as audit_table

    rows = _rows(where, rows_that_fit(**only), last=last)
    if json:
        typer.echo(audit_table.as_json(rows))
    elif csv:
        typer.echo(audit_table.as_csv(rows), nl=False)
    else:
        _print_text(rows, where, wide=wide)


@app.command("show")
def show(
    where: Where,
    call: Annotated[str, typer.Argument(help="Id of the call, or number of a row with --rank.")],
    rank: Rank = None,
    json: AsJson = False,
) -> None:
    """Show all rows of one call, with all columns.

    Example: rudder audit show runs/demo 17 --rank 0
    """
    from rudder.cli.show import audit as audit_table
    from rudder.memory.run.audit import AuditFilter
    from rudder.training.errors import ConfigError

    rows = _rows(where, AuditFilter(call_id=call, rank=rank))
    if not rows and call.isdecimal():
        found = _rows(where, AuditFilter(rank=rank))
        rows = [row for row in found if row.number == int(call)]
    if not rows:
        raise ConfigError(f"no call {call} in {where}", remedy="see `rudder audit list`")
    typer.echo(audit_table.as_json(rows) if json else "\n\n".join(_whole(row) for row in rows))


@app.command("verify")
def verify(
    where: Where,
    memory: Annotated[
        Path | None,
        typer.Option(
            help="Memory that keeps where the log ended; default: memory.db in the data folder."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check that the log and all that it covers are as they were written; exit code 1 if not.

    Example: rudder audit verify runs/demo
    """
    from rudder.cli.options import check_memory

    if memory is not None:
        check_memory(memory)
    results = [_verified(path, memory) for path in _files(where)]
    if where.is_dir():
        results = [*map(_in_its_place, results), *_missing(results, where)]
    typer.echo(json_text.dumps(results, indent=2) if json else "\n".join(map(_said, results)))
    if not all(result["holds"] for result in results):
        raise typer.Exit(1)


@app.command("export")
@with_options(FILTERS)
def export(
    where: Where,
    out: Annotated[Path, typer.Argument(help="File to write; - for standard output.")],
    *,
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Write comma-separated values, with the names of the columns."),
    ] = False,
    **only: Any,
) -> None:
    """Write rows as JSON lines, with OpenTelemetry's names for generative AI.

    Example: rudder audit export runs/demo audit.jsonl --kind effect
    """
    from rudder.cli.options import writing_to
    from rudder.cli.show import audit as audit_table

    rows = _rows(where, rows_that_fit(**only))
    text = audit_table.as_csv(rows) if csv else audit_table.as_telemetry(rows)
    if str(out) == "-":
        typer.echo(text, nl=False)
    else:
        with writing_to(out, name="out"):
            out.write_text(text)
        typer.echo(f"{len(rows):,} rows: {out}", err=True)


@app.command("tail")
@with_options(FILTERS)
def tail(
    where: Where,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Rows of each rank.", min=1)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    wide: Wide = False,
    json: AsJson = False,
    **only: Any,
) -> None:
    """Show the last rows; with -f also new ones, until Ctrl-C.

    Example: rudder audit tail runs/demo -f --outcome applied
    """
    from rudder.cli.show.progress import is_output_closed

    wanted = rows_that_fit(**only)
    seen: dict[Path, int] = {}
    is_first = True
    while is_first or (follow and not is_output_closed()):
        rows: list[AuditRow] = []
        for reader in _readers(_files(where)):
            last = lines if is_first else None
            fresh = reader.audit(wanted, after=seen.get(reader.path, 0), last=last)
            seen[reader.path] = max([seen.get(reader.path, 0), *(row.number for row in fresh)])
            rows += fresh
        _print_rows(rows, where, wide=wide, json=json)
        is_first = False
        if follow:
            time.sleep(0.5)


def _files(where: Path) -> list[Path]:
    from rudder.cli.options import check_run
    from rudder.memory.run.run_reader import run_files

    check_run(where, name="where")
    return run_files(where)


def _readers(paths: list[Path]) -> Iterator[RunReader]:
    from rudder.memory.run.run_reader import read_runs

    return read_runs(paths)


def _rows(where: Path, only: AuditFilter, *, last: int | None = None) -> list[AuditRow]:
    return [row for reader in _readers(_files(where)) for row in reader.audit(only, last=last)]


def _verified(path: Path, memory: Path | None) -> dict[str, Any]:
    """What verify found; of a file that cannot even be opened, why."""
    from rudder.memory.run.run_reader import RunReader
    from rudder.memory.run.verify import Verification
    from rudder.memory.store import LaterVersionError
    from rudder.training.errors import DataError

    try:
        reader = RunReader(path)
    except LaterVersionError:
        raise
    except DataError as error:
        found = Verification(rows=0, reason=error.message)
    else:
        with reader:
            found = reader.verify(known=_known_heads(reader, memory))
    return {"file": str(path), "holds": found.holds, **asdict(found)}


def _in_its_place(result: dict[str, Any]) -> dict[str, Any]:
    """Broken where the file is of another rank than its name says."""
    if not result["holds"] or result["rank"] is None:
        return result
    if Path(result["file"]).stem == f"rank{result['rank']}":
        return result
    return {**result, "holds": False, "reason": f"it is the record of rank {result['rank']}"}


def _missing(results: list[dict[str, Any]], where: Path) -> Iterator[dict[str, Any]]:
    """Broken results for files that belong to a run and are not there, or are of another run."""
    from rudder.memory.run.run_reader import run_file
    from rudder.memory.run.verify import Verification

    runs = {result["run_key"] for result in results if result["run_key"] is not None}
    if len(runs) > 1:
        mixed = Verification(rows=0, reason=f"its files are of {len(runs)} runs")
        yield {"file": str(where), "holds": False, **asdict(mixed)}
    for rank in range(max((result["num_ranks"] or 0 for result in results), default=0)):
        path = run_file(where, rank=rank)
        if not path.exists():
            missing = Verification(rows=0, reason="it is missing")
            yield {"file": str(path), "holds": False, **asdict(missing)}


def _said(result: dict[str, Any]) -> str:
    row = "" if result["broken_row"] is None else f"row {result['broken_row']}: "
    end = _held(result) if result["holds"] else f"BROKEN: {row}{result['reason']}"
    notes = (f"\n  row {n}: an effect that no intent came before" for n in result["unannounced"])
    return f"{result['file']}: {end}" + "".join(notes)


def _held(result: dict[str, Any]) -> str:
    """How much is as it was written, and of what nothing can be said."""
    end, begun = f"{result['rows']:,} rows hold", result["chained_from"]
    if begun is None:
        return f"{end}; the version that wrote the file kept no digests of windows, episodes, ..."
    tables = f"{end}, and {result['table_rows']:,} rows of other tables"
    return tables if begun == 1 else f"{tables}, as they were when row {begun} was written"


def _known_heads(reader: RunReader, memory: Path | None) -> tuple[Head, ...]:
    """Where the log ended when it was merged into a memory, if it was."""
    from rudder.memory.past.experience import Catalog
    from rudder.training.errors import DataError
    from rudder.training.steering_options import default_memory

    path = memory or default_memory()
    if memory is None and not path.exists():
        return ()
    try:
        keys = {(each.run_key, each.rank) for each in reader.workloads().values()}
    except DataError:
        return ()
    with Catalog(path) as catalog:
        return tuple(
            head for key, rank in keys for head in catalog.audit_heads(run_key=key, rank=rank)
        )


def _print_rows(rows: list[AuditRow], where: Path, *, wide: bool, json: bool) -> None:
    if json:
        typer.echo("".join(row.as_json() + "\n" for row in rows), nl=False)
    elif rows:
        _print_text(rows, where, wide=wide)


def _print_text(rows: list[AuditRow], where: Path, *, wide: bool) -> None:
    from rudder.cli.show.audit import audit_text, wide_text

    if not rows:
        typer.echo("no row matches; without options all rows are shown", err=True)
    elif wide:
        typer.echo(wide_text(rows))
    else:
        ids = {name for reader in _readers(_files(where)) for name in reader.episode_ids()}
        width = shutil.get_terminal_size().columns
        typer.echo(audit_text(rows, width=width, ids=ids))


def _whole(row: AuditRow) -> str:
    columns = row.columns().items()
    return "\n".join(f"{name}: {value}" for name, value in columns if value is not None)
