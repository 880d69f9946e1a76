"""`rudder tools`: what agents may read and change, and their read tools for people."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rudder.cli.help import App
from rudder.cli.options import AsJson, RunOption, check_run
from rudder.cli.show import figures
from rudder.cli.show.progress import emit
from rudder.tools.calls import ToolCall
from rudder.tools.catalog import SPECS, tool_schemas
from rudder.training.errors import ConfigError, DataError

app = App("List the tools that agents use, and read a run with them.")
_READS = tuple(spec for spec in SPECS if spec.kind == "read")
_PLAIN = ("", "value")
_SHORT = 18
"""Characters of a value that has a column; `--json` has the others, too."""


@app.command("list")
def list_(json: AsJson = False) -> None:
    """List the tools that agents read a run with, and stage changes with.

    Example: rudder tools list --json
    """
    lines: list[RenderableType] = []
    for spec in SPECS:
        arguments = ", ".join(spec.arguments.model_fields) or "no arguments"
        lines.append(Text.assemble((spec.name, "bold"), f" ({spec.kind}): {arguments}"))
        lines.append(Padding(Text(spec.description), (0, 0, 1, 4)))
    emit(tool_schemas(), Group(*lines), json=json)


@app.command("call")
def call(
    name: Annotated[str, typer.Argument(help="A read tool: " + ", ".join(s.name for s in _READS))],
    run: RunOption,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Of the tool: capacity_rows=20000.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank.", min=0)] = 0,
    json: AsJson = False,
) -> None:
    """Call a read tool on a run, finished or not, as an agent would after its last window.

    Arguments that are left out have usual values: 8 windows, 5 episodes, the settings in force.
    Nothing is changed; `rudder set` changes a buffer.

    Example: rudder tools call estimate_effect capacity_rows=20000 --run runs/demo
    """
    _check(name)
    check_run(run, name="run")
    from rudder.agents.replay.recorded_run import toolbox_of
    from rudder.memory.run.run_reader import RunReader, run_file

    path = run_file(run, rank=rank)
    if not path.is_file():
        raise DataError(f"{path} does not exist", remedy="name a rank of that run with --rank")
    with RunReader(path) as reader:
        toolbox = toolbox_of(reader)
        given = _arguments(name, arguments or [])
        result = toolbox.call(ToolCall(call_id="person", tool=name, arguments=given))
    content = json_text.loads(result.content)
    if result.is_error:
        raise ConfigError(f"{name}: {content['message']}", remedy=content["what_to_do"])
    emit(content, Group(*_lines(content)), json=json)


def _check(name: str) -> None:
    """Raise ConfigError unless it is a read tool."""
    spec = next((spec for spec in SPECS if spec.name == name), None)
    if spec is not None and spec.kind == "write":
        raise ConfigError(
            f"{name} stages a change, which only an agent's decision may do",
            remedy="`rudder set` changes the buffer of a running trainer",
        )
    if spec is None:
        allowed = ", ".join(spec.name for spec in _READS)
        raise ConfigError.for_field("name", value=name, allowed=allowed)


def _arguments(name: str, texts: list[str]) -> dict[str, Any]:
    """What was given as `key=value`, and the usual values of what was not."""
    usual = {"num_windows": 8, "num_episodes": 5}
    fields = next(spec for spec in SPECS if spec.name == name).arguments.model_fields
    given: dict[str, Any] = {}
    for text in texts:
        key, is_pair, value = text.partition("=")
        if not is_pair or key not in fields:
            allowed = ", ".join(f"{each}=VALUE" for each in fields) or "no arguments"
            raise ConfigError.for_field("arguments", value=text, allowed=allowed)
        given[key] = _value(value)
    return {key: usual[key] for key in fields if key in usual} | given


def _value(text: str) -> Any:
    try:
        return json_text.loads(text)
    except ValueError:
        return text


def _lines(content: dict[str, Any]) -> list[RenderableType]:
    """An answer for people: plain values in one table, lists of equal parts in tables below."""
    tables = {
        key: value
        for key, value in content.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    plain = [(key, _measure(key, value)) for key, value in content.items() if key not in tables]
    lines: list[RenderableType] = [figures.table(_PLAIN, plain, text=_PLAIN)] if plain else []
    for key, parts in tables.items():
        names = [n for n in parts[0] if max(len(_cell(each.get(n))) for each in parts) <= _SHORT]
        rows = [[_measure(name, part.get(name)) for name in names] for part in parts]
        heads = [name.replace("_", " ") for name in names]
        for number, places in enumerate(_side_by_side(heads, rows)):
            shown = [[row[place] for place in places] for row in rows]
            made = figures.table([heads[place] for place in places], shown)
            lines.append(made if number else figures.titled(key, made))
    return lines


def _side_by_side(heads: list[str], rows: list[list[str]]) -> Iterator[list[int]]:
    """The columns of as many tables as fit in 80 columns; each begins with the first column."""
    columns = zip(heads, *rows, strict=True)
    widths = [max(map(len, (*head.split(), *cells))) + 1 for head, *cells in columns]
    places = [0]
    for place in range(1, len(heads)):
        if sum(widths[each] for each in [*places, place]) > figures.WIDTH:
            yield places
            places = [0]
        places.append(place)
    yield places


def _measure(key: str, value: object) -> str:
    """A cell; numbers of bytes have their unit."""
    if key.endswith("_bytes") and isinstance(value, int):
        return figures.mebibytes(value)
    return _cell(value)


def _cell(value: object) -> str:
    if value is None:
        return figures.ABSENT
    if isinstance(value, dict):
        return ", ".join(f"{key} {_measure(key, each)}" for key, each in value.items())
    return figures.plain(value)
