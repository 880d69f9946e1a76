"""One line at a time about what takes long, on standard error."""

from __future__ import annotations

import typer


def say(text: str) -> None:
    """Tell a person; standard output is for results."""
    typer.echo(text, err=True)
