"""docs/cli.md: every command with its options, made from the code.

python -m rudder.cli.docs_page > docs/cli.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer
from typer.core import TyperGroup

_HEAD = """# Commands

Made by `python -m rudder.cli.docs_page`; do not edit. `rudder COMMAND --help` says the same.

Exit codes: 0 all is well; 1 a check does not hold; 2 wrong usage or settings; 3 wrong or missing
data; 4 something is missing on this machine; 5 a run failed, or no trainer answers; 75 a signal
ended a run after its last checkpoint.

`rudder --install-completion` has bash, zsh, fish or PowerShell complete commands, options and
folders of runs from the next session on; `rudder --show-completion` prints what it would install.
"""
_MARKUP = re.compile(r"\[/?dim\]|\\(?=\[)")
_EXAMPLE = "Example: "


def cli_page() -> str:
    """All commands as Markdown, in the order of `rudder --help`; hidden ones are left out."""
    from rudder.cli.main import make_app

    root = typer.main.get_command(make_app())
    sections = _sections(root, typer.Context(root, info_name="rudder"), level=1)
    return "\n".join([_HEAD, *list(sections)[1:]])


def _sections(command: object, context: typer.Context, *, level: int) -> Iterator[str]:
    """A command's own section, and one for each command below it."""
    yield _section(context, level=level)
    if not isinstance(command, TyperGroup):
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if below is not None and not below.hidden:
            inner = typer.Context(below, info_name=name, parent=context)
            yield from _sections(below, inner, level=level + 1)


def _section(context: typer.Context, *, level: int) -> str:
    lines = [f"{'#' * level} {context.command_path}", ""]
    for paragraph in (context.command.help or "").split("\n\n"):
        example = paragraph.removeprefix(_EXAMPLE)
        lines += [f"    {example}" if example != paragraph else _one_line(paragraph), ""]
    rows = list(_rows(context))
    if rows:
        lines += ["| | |", "| --- | --- |", *rows, ""]
    return "\n".join(lines)


def _rows(context: typer.Context) -> Iterator[str]:
    for parameter in context.command.params:
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            name, meaning = map(_cell, record)
            yield f"| `{name}` | {meaning} |"


def _cell(text: str) -> str:
    return _one_line(_MARKUP.sub("", text)).replace("|", r"\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    typer.echo(cli_page(), nl=False)
