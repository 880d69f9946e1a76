"""`--help` as a person reads it: options by topic, with whole names, within 80 columns."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from rudder.training.errors import ConfigError, shown

Registered = TypeVar("Registered", bound=Callable[..., Any])
_NAME_WIDTH = 28
"""Of most options, so that meanings stand below one another, whatever their topic."""


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; what is wrong with a value is told in words alone."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises ConfigError for a name that is too long for a file."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ConfigError(
                f"no file can have so long a name: {shown(error.filename)}",
                remedy="name a file or folder that is there; a part of its path may have 255 bytes",
            ) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of a command; nothing is left to the formatter."""
        _print_help(ctx)


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of a group of commands; nothing is left to the formatter."""
        _print_help(ctx)


class App(typer.Typer):
    """A group of commands with this help, also under `-h`."""

    def __init__(self, text: str, *, completion: bool = False) -> None:
        """completion: offer --install-completion and --show-completion, of the whole program."""
        super().__init__(
            help=text,
            cls=_Group,
            no_args_is_help=True,
            add_completion=completion,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def command(
        self, name: str | None = None, **options: Any
    ) -> Callable[[Registered], Registered]:
        """Register a command, as typer.Typer does."""
        return super().command(name, cls=_Command, **options)


def _print_help(context: Any) -> None:
    console, command = Console(highlight=False), context.command
    console.print(command.get_usage(context), markup=False)
    for paragraph in (command.help or "").split("\n\n"):
        console.print(f"\n{' '.join(paragraph.split())}", markup=False)
    for topic, rows in _topics(context).items():
        console.print(f"\n[bold]{topic}[/bold]")
        console.print(_rows_table(rows))


def _topics(context: Any) -> dict[str, list[tuple[str, str]]]:
    """Names and meanings by topic: arguments, then options of a command's own topics."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            default = "Options" if parameter.opts[0].startswith("-") else "Arguments"
            topic = getattr(parameter, "rich_help_panel", None) or default
            found.setdefault(topic, []).append(_named(*record))
    if isinstance(context.command, TyperGroup):
        found["Commands"] = list(_commands(context))
    last = found.pop("Options", [])
    return found | {"Options": last} if last else found


def _commands(context: Any) -> Iterator[tuple[str, str]]:
    for name in context.command.list_commands(context):
        below = context.command.get_command(context, name)
        if below is not None and not below.hidden:
            yield name, " ".join((below.help or "").partition("\n\n")[0].split())


def _named(name: str, meaning: str) -> tuple[str, str]:
    """Names of an option, one a line; its choices go to its meaning, as there may be many."""
    names, _, kind = name.partition(" <")
    choices = kind.rstrip(">.").split("|") if "|" in kind else []
    lines = names.replace(" / ", "\n")
    if kind and not choices:
        lines += f" <{kind.replace(' range', '')}"
    said = f"One of: {', '.join(choices)}." if choices else ""
    text, bracket, default = meaning.partition(" [dim]" if "[dim]" in meaning else "  [")
    return lines, " ".join(filter(None, (text, said))) + bracket + default


def _rows_table(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True, min_width=_NAME_WIDTH)
    table.add_column(overflow="fold")
    for name, meaning in rows:
        table.add_row(Text(name, style="bold cyan"), meaning)
    return table
