"""`--help` is whole at 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from rudder.cli.main import make_app


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)


COMMANDS = list(commands(typer.main.get_command(make_app())))


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS]
)
def test_names_and_words_are_whole(path: tuple[str, ...], command: Any) -> None:
    text = CliRunner().invoke(make_app(), [*path, "-h"], env={"COLUMNS": "80"}).output
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    words = set(text.split()) | {word.strip(",.") for word in text.split()}
    names = [name for each in command.params for name in (*each.opts, *each.secondary_opts)]
    assert [name for name in names if name not in words] == []
    said = [each.help or "" for each in command.params] + [command.help or ""]
    plain = re.sub(r"\[/?dim\]|\\(?=\[)", "", " ".join(said))
    assert [word for word in plain.split() if len(word) < 40 and word not in words] == []


def test_options_of_train_stand_by_topic() -> None:
    text = CliRunner().invoke(make_app(), ["train", "--help"], env={"COLUMNS": "80"}).output
    topics = [line for line in text.splitlines() if line and not line.startswith((" ", "Usage"))]
    assert topics[-7:] == [
        "Graph and hosts", "Model and training", "Loader and buffer", "Steering",
        "Language model", "Run", "Options",
    ]  # fmt: skip
