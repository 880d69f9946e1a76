"""Lists on the command line: values with commas between them; and options several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from rudder.training.errors import ConfigError

Capacities = Annotated[
    str, typer.Option(help="Shares of the halo (0.25), rows (20000) or bytes (64MiB).")
]
CAPACITIES = "0.05,0.15,0.25,0.5"
LOOKAHEAD = "40"
Lookaheads = Annotated[str, typer.Option(help="Batches seen ahead.")]
WarmEpochs = Annotated[
    int, typer.Option(help="Epochs at the start that are replayed, not counted.", min=0)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")]
NumHosts = Annotated[int, typer.Option(help="Local hosts, one partition each.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Seeds per trainer and step. [dim]\\[default: 512][/dim]")
]
Fanout = Annotated[
    str | None, typer.Option(help="Neighbours per layer. [dim]\\[default: 5,10][/dim]")
]


def parts(name: str, text: str) -> list[str]:
    """The values, once each, in their order; raises ConfigError where there is none."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigError.for_field(name, value=text, allowed="values with commas between them")
    return list(dict.fromkeys(found))


def whole_numbers(
    name: str, text: str, *, at_least: int = 0, at_most: int = 2**31 - 1
) -> tuple[int, ...]:
    """The values as numbers; raises ConfigError where one is none, or out of bounds."""
    found = parts(name, text)
    if not all(part.isdecimal() and at_least <= int(part) <= at_most for part in found):
        allowed = f"whole numbers from {at_least} to {at_most}, with commas between them"
        raise ConfigError.for_field(name, value=text, allowed=allowed)
    return tuple(map(int, found))
