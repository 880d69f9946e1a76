"""`rudder tools`: what agents may read and change, as text or as JSON schemas."""

from __future__ import annotations

import json as json_module

import typer
from rich.console import Console
from rich.padding import Padding

from rudder.cli.options import AsJson


def tools(json: AsJson = False) -> None:
    """List the tools that agents read a run with, and stage changes with.

    Example: rudder tools --json
    """
    from rudder.tools.catalog import SPECS, tool_schemas

    if json:
        typer.echo(json_module.dumps(tool_schemas(), indent=2))
        return
    console = Console(highlight=False)
    for spec in SPECS:
        arguments = ", ".join(spec.arguments.model_fields) or "no arguments"
        console.print(f"[bold]{spec.name}[/bold] ({spec.kind}): {arguments}")
        console.print(Padding(spec.description, (0, 0, 1, 4)), markup=False)
