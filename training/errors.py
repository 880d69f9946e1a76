"""What Rudder raises for a user's mistake or a broken machine: one tree, each with a remedy.

RudderError
├── ConfigError      a setting out of its range, an unknown name              exit code 2
├── DataError        a graph or a partition that cannot be used as it is      exit code 3
├── MachineError     the machine lacks something: memory, namespaces, a port  exit code 4
└── RunError         a server or a trainer failed, hung or was killed         exit code 5
    └── StoppedError a signal ended the run after a last checkpoint           exit code 75
"""

from __future__ import annotations

import sys
import tokenize
import zipfile
import zlib
from contextlib import suppress

__all__ = ["ConfigError", "DataError", "MachineError", "RudderError", "RunError", "StoppedError"]

ARCHIVE_ERRORS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, RuntimeError,
    MemoryError, TypeError, SyntaxError, tokenize.TokenError,
)  # fmt: skip
"""What unpacking a damaged or foreign zip, npz or npy may raise: some ask for a password, a method
that is not implemented (NotImplementedError is a RuntimeError), or terabytes, and numpy reads the
header of an array as Python."""
JSON_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, TypeError, RecursionError)
"""What reading a damaged file of JSON may raise; it may be nested too deep."""


_MOST_SHOWN = 200


def shown(value: object) -> str:
    """What a message shows of a value that a user gave; a long one without its middle."""
    text = repr(value)
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]} ... {text[-half:]}"


class RudderError(Exception):
    """An error that a user can act on.

    `message` says what is wrong and where; `remedy` says what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.remedy}"


class ConfigError(RudderError):
    """A setting is unknown or outside its range."""

    exit_code = 2

    @classmethod
    def for_field(cls, name: str, *, value: object, allowed: str, remedy: str = "") -> ConfigError:
        """Name the dotted field, the value that was given and what is allowed."""
        return cls(
            f"{name} = {shown(value)} is not allowed; allowed: {allowed}",
            remedy=remedy or f"set {name} to one of the allowed values",
        )


class DataError(RudderError):
    """A graph, a file of it, or a partition of it cannot be used."""

    exit_code = 3


class MachineError(RudderError):
    """The machine lacks something that the run needs."""

    exit_code = 4

    def __init__(self, message: str, *, remedy: str, lost_hosts: tuple[str, ...] = ()) -> None:
        """lost_hosts: machines that could not be used at all."""
        super().__init__(message, remedy=remedy)
        self.lost_hosts = lost_hosts


class RunError(RudderError):
    """A process of the run failed; `host` and `rank` say which one.

    lost_hosts: machines that were lost; is_wanted: a user ended the run.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        remedy: str,
        host: str | None = None,
        rank: int | None = None,
        lost_hosts: tuple[str, ...] = (),
        is_wanted: bool = False,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.host = host
        self.rank = rank
        self.lost_hosts, self.is_wanted = lost_hosts, is_wanted


class StoppedError(RunError):
    """The run was told to stop, and wrote a checkpoint from which it can go on.

    75 is EX_TEMPFAIL of sysexits.h: try again later.
    """

    exit_code = 75


def complain(text: str) -> None:
    """Write a line to standard error; where that cannot be written, the work goes on without."""
    with suppress(OSError, ValueError):  # full; closed
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
