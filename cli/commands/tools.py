"""`rudder tools`: what agents may read and change, as a table or as JSON schemas."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def tools(
    json: Annotated[
        bool, typer.Option("--json", help="Print the schemas in the form of function calling.")
    ] = False,
) -> None:
    """List the tools that agents read a run with, and stage changes with.

    Example: rudder tools --json
    """
    from rudder.tools.catalog import SPECS, tool_schemas

    if json:
        typer.echo(json_module.dumps(tool_schemas(), indent=2))
        return
    table = Table("tool", "kind", "arguments", "what it does", title="rudder tools")
    for spec in SPECS:
        arguments = "\n".join(spec.arguments.model_fields) or "none"
        table.add_row(spec.name, spec.kind, arguments, spec.description)
    Console().print(table)
