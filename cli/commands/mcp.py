"""`rudder mcp`: let other programs read runs, and steer them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.commands.runs import RUNS, Folder
from rudder.cli.show.progress import say
from rudder.training.errors import MachineError

_HOST = "127.0.0.1"


def mcp(
    folder: Folder = RUNS,
    http: Annotated[
        int | None,
        typer.Option(
            help="Port on which to listen for HTTP, on this machine only; default: standard input.",
            min=1024,
            max=65535,
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Offer change_buffer, too; critic and guard review each change."
        ),
    ] = False,
) -> None:
    """Serve runs to other programs by the Model Context Protocol (extra `mcp`).

    Programs list, read, diagnose and explain runs with the agents' own read tools. Without --write
    they change nothing but report.html.

    Example: rudder mcp --folder runs --http 8765
    """
    try:
        from rudder.cli.mcp_server import make_server
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        raise MachineError(
            "the package `mcp` is not installed", remedy="pip install 'rudder-gnn[mcp]'"
        ) from None
    server = make_server(Path(folder), may_write=write)
    if http is None:
        server.run("stdio")
        return
    say(f"MCP at http://{_HOST}:{http}/mcp; Ctrl-C ends it")
    server.run("streamable-http", host=_HOST, port=http)
