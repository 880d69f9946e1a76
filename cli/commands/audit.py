"""`rudder audit`: the log of all calls, and whether it is as it was written."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rudder.cli.help import App
from rudder.cli.options import (
    FILTERS,
    AsJson,
    FolderOfRun,
    Rank,
    Where,
    check_memory_file,
    check_run,
    long_command,
    rows_that_fit,
    with_options,
    writing_to,
)
from rudder.cli.show.audit import as_csv, as_telemetry, audit_text, wide_text
from rudder.cli.show.episode import model_lines
from rudder.cli.show.otlp import TRACES_PATH, as_otlp
from rudder.cli.show.progress import emit, is_output_closed, say
from rudder.cli.show.verified import findings_text, verified
from rudder.memory.run.audit import AuditFilter, AuditRow
from rudder.memory.run.heads import current_heads, read_key
from rudder.memory.run.run_reader import read_runs, run_files
from rudder.training.errors import ConfigError, MachineError

app = App("Read and verify the log of all that the agents did, in RUN/steering/rankN.db.")
_SEND_S = 30.0
Wide = Annotated[
    bool, typer.Option("--wide", help="One line a row, with whole ids, times and contents.")
]
AuditKey = Annotated[
    Path | None, typer.Option(help="File with the secret that lines are signed with.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Comma-separated values, with a header.")]


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
    csv: AsCsv = False,
    **only: Any,
) -> None:
    """List rows of the log, rank by rank, with ids that `rudder explain` takes.

    Example: rudder audit list runs/demo --agent act --outcome applied
    """
    rows = _rows(where, rows_that_fit(**only), last=last)
    if csv and not json:
        typer.echo(as_csv(rows), nl=False)
    elif rows or json:
        emit([row.columns() for row in rows], _text(rows, where, wide=wide), json=json)
    else:
        say("no row matches; without options all rows are shown")


@app.command("show")
def show(
    where: Where,
    call: Annotated[str, typer.Argument(help="Id of a call, or with --rank the number of a row.")],
    rank: Rank = None,
    json: AsJson = False,
) -> None:
    """Show all rows of one call, with all columns.

    Example: rudder audit show runs/demo 17 --rank 0
    """
    rows = _rows(where, AuditFilter(call_id=call, rank=rank))
    if not rows and call.isdecimal():
        found = _rows(where, AuditFilter(rank=rank))
        rows = [row for row in found if row.number == int(call)]
    if not rows:
        raise ConfigError(f"no call {call} in {where}", remedy="see `rudder audit list`")
    columns = [
        [f"{name}: {value}" for name, value in row.columns().items() if value is not None]
        for row in rows
    ]
    values = [row.columns() for row in rows]
    emit(values, "\n\n".join(map("\n".join, columns)), json=json)


@app.command("model")
def model(
    where: Where,
    rank: Rank = None,
    last: Annotated[int | None, typer.Option(help="Only the last questions.", min=1)] = None,
    short: Annotated[bool, typer.Option("--short", help="Print the beginnings only.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a language model was asked, and what it answered.

    Example: rudder audit model runs/demo --last 1
    """
    files = [each for each in _files(where) if rank is None or each.stem == f"rank{rank}"]
    calls = [call for reader in read_runs(files) for call in reader.model_calls()]
    calls = calls[-(last or len(calls)) :]
    if calls or json:
        emit(calls, "\n".join(model_lines(calls, whole=not short)), json=json)
    else:
        say("no language model was asked")


@app.command("verify")
@long_command
def verify(
    where: Where,
    memory: Annotated[
        Path | None,
        typer.Option(
            help="Memory that keeps where logs ended; default: memory.db in the data folder."
        ),
    ] = None,
    audit_anchor: Annotated[
        Path | None, typer.Option(help="File to which the run's --audit-anchor has written.")
    ] = None,
    audit_key: AuditKey = None,
    json: AsJson = False,
) -> None:
    """Check that logs and all that they cover are as they were written, as far as can be known.

    Exit code 1 if not; 2 for an option, 3 for a file that cannot be used.

    Example: rudder audit verify runs/demo --audit-anchor /mnt/vault/heads.jsonl
    """
    check_run(where, name="where")
    if memory is not None:
        check_memory_file(memory)
    if audit_anchor is not None and not audit_anchor.is_file():
        raise ConfigError.for_field(
            "audit_anchor", value=str(audit_anchor), allowed="a file that a run has appended to"
        )
    findings = verified(
        where,
        memory=memory,
        anchor=audit_anchor,
        key=None if audit_key is None else read_key(audit_key),
    )
    values = [
        {"file": str(each.file), "holds": each.found.holds, **asdict(each.found),
         "known_to": [asdict(head) for head in each.known_to], "unknown_rows": each.unknown_rows}
        for each in findings
    ]  # fmt: skip
    emit(values, findings_text(findings, is_whole=where.is_dir()), json=json)
    if not all(each.found.holds for each in findings):
        raise typer.Exit(1)


@app.command("heads")
def heads(where: FolderOfRun, audit_key: AuditKey = None) -> None:
    """Print where the logs of a run end now, as the lines of an anchor.

    Example: rudder audit heads runs/demo >> /mnt/vault/heads.jsonl
    """
    check_run(where, name="where")
    key = None if audit_key is None else read_key(audit_key)
    for line in current_heads(where):
        typer.echo(line.signed(key).model_dump_json())


@app.command("export")
@with_options(FILTERS)
def export(
    where: Where,
    out: Annotated[
        str,
        typer.Argument(
            help="File to write; - for standard output; with --otlp also a collector's address."
        ),
    ],
    *,
    csv: AsCsv = False,
    otlp: Annotated[
        bool, typer.Option("--otlp", help="Traces for OpenTelemetry, a span for each call.")
    ] = False,
    **only: Any,
) -> None:
    """Write rows as JSON lines, with OpenTelemetry's names for generative AI, or as its traces.

    With --otlp a decision is a trace: its tool calls, questions to models and changes are spans
    with their times. A collector takes them at http://HOST:4318.

    Example: rudder audit export runs/demo http://localhost:4318 --otlp
    """
    rows = _rows(where, rows_that_fit(**only))
    text = as_otlp(rows) if otlp else as_csv(rows) if csv else as_telemetry(rows)
    if otlp and out.startswith(("http://", "https://")):
        _send(text, out)
        say(f"{len(rows):,} rows: {out}")
    elif out == "-":
        typer.echo(text, nl=False)
    else:
        with writing_to(Path(out), name="out"):
            Path(out).write_text(text)
        say(f"{len(rows):,} rows: {out}")


def _send(traces: str, url: str) -> None:
    """Hand traces to a collector; raises MachineError where it does not take them."""
    import httpx2

    headers = {"Content-Type": "application/json"}
    where = url if url.rstrip("/").endswith(TRACES_PATH) else url.rstrip("/") + TRACES_PATH
    try:
        httpx2.post(where, content=traces, headers=headers, timeout=_SEND_S).raise_for_status()
    except httpx2.HTTPError as error:
        raise MachineError(
            f"{where} did not take the traces: {error}",
            remedy="is it the address of a collector that takes OTLP over HTTP (port 4318)?",
        ) from None


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
    wanted = rows_that_fit(**only)
    seen: dict[Path, int] = {}
    last: int | None = lines
    while last is not None or (follow and not is_output_closed()):
        rows: list[AuditRow] = []
        for reader in read_runs(_files(where)):
            fresh = reader.audit(wanted, after=seen.get(reader.path, 0), last=last)
            seen[reader.path] = max([seen.get(reader.path, 0), *(row.number for row in fresh)])
            rows += fresh
        if json:
            typer.echo("".join(row.as_json() + "\n" for row in rows), nl=False)
        elif rows:
            typer.echo(_text(rows, where, wide=wide))
        last = None
        if follow:
            time.sleep(0.5)


def _files(where: Path) -> list[Path]:
    check_run(where, name="where")
    return run_files(where)


def _rows(where: Path, only: AuditFilter, *, last: int | None = None) -> list[AuditRow]:
    return [row for reader in read_runs(_files(where)) for row in reader.audit(only, last=last)]


def _text(rows: list[AuditRow], where: Path, *, wide: bool) -> str:
    if wide:
        return wide_text(rows)
    ids = {name for reader in read_runs(_files(where)) for name in reader.episode_ids()}
    return audit_text(rows, width=shutil.get_terminal_size().columns, ids=ids)
