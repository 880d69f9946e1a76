"""What a user names on the command line: checked before anything is opened, and named if wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rudder.memory.run_file import FOLDER
from rudder.training.errors import ConfigError, MachineError


def check_run(path: Path, *, name: str) -> None:
    """Raise ConfigError unless `path` is a steered run's folder or a file.

    name: of the argument or option.
    """
    if not path.is_file() and not any((path / FOLDER).glob("rank*.db")):
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed=f"the folder of a steered run (with {FOLDER}/rankN.db), or one of these files",
            remedy="see what there is: `ls runs`; a run with --controller none has no record",
        )


def check_file(path: Path, *, name: str, allowed: str, remedy: str) -> None:
    """Raise ConfigError unless `path` is a file."""
    if not path.is_file():
        raise ConfigError.for_field(name, value=str(path), allowed=allowed, remedy=remedy)


def check_memory(path: Path) -> None:
    """Raise ConfigError unless there is a memory at `path`."""
    check_file(
        path,
        name="memory",
        allowed="a memory that exists",
        remedy="a first steered run makes one, or `rudder memory merge RUN --memory FILE`",
    )


@contextmanager
def writing_to(path: Path, *, name: str) -> Iterator[None]:
    """Say of what cannot be written which argument it was; raises ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError.for_field(
            name,
            value=str(path),
            allowed="a file that can be written",
            remedy=f"choose another place: {error.strerror}",
        ) from None


@contextmanager
def writing_memory(path: Path) -> Iterator[Path]:
    """Say of a memory that cannot be written why not; raises MachineError."""
    try:
        yield path
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise MachineError(
            f"{path} cannot be written: {why}",
            remedy="make room, give write access, or name another file with --memory",
        ) from None
