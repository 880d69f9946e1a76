"""Where the logs of a run end, written down outside of them: in an anchor, signed on request.

A chain of hashes proves that no part of a log was changed. Whoever can write the file can still
write it anew as a whole, or set it back to an earlier state. Both are found by comparing the log
with heads that were written down elsewhere meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rudder.memory.run.run_reader import FOLDER, RunReader, run_files
from rudder.memory.store import now
from rudder.training.control.messages import LogHead
from rudder.training.errors import ConfigError, DataError, MachineError
from rudder.training.settings import FrozenExact

SIGNED_FILE = Path(FOLDER) / "heads.jsonl"
"""In a run's folder: the signed heads of a run with --audit-key."""
_MIN_KEY_BYTES = 16
_COMMAND_SECONDS = 30.0
_BEGIN = '{"time":'


class HeadsLine(FrozenExact):
    """A line of an anchor: where the logs of a run's ranks ended at a moment.

    run_dir: the run's folder, absolute; run_key: of the logs' first rows; signature: HMAC-SHA256 of
    the line without it, in hexadecimal.
    """

    time: str
    run_dir: str
    run_key: str
    heads: tuple[LogHead, ...]
    signature: str | None = None

    def signed(self, key: bytes | None) -> HeadsLine:
        """The line with its signature; without a key as it is."""
        return self if key is None else self.model_copy(update={"signature": self._mac(key)})

    def is_signed_with(self, key: bytes) -> bool:
        """Whether who wrote the line had the key."""
        return hmac.compare_digest(self.signature or "", self._mac(key))

    def _mac(self, key: bytes) -> str:
        content = self.model_dump_json(exclude={"signature"}, exclude_none=True)
        return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def read_key(path: Path) -> bytes:
    """The content of a key file; raises ConfigError for one that cannot be read or is too short."""
    try:
        key = path.read_bytes()
    except OSError as error:
        key, problem = b"", f"it cannot be read ({error.strerror})"
    else:
        problem = f"it has {len(key)} bytes"
    if len(key) < _MIN_KEY_BYTES:
        raise ConfigError.for_field(
            "audit_key",
            value=str(path),
            allowed=f"a file of {_MIN_KEY_BYTES} bytes or more; {problem}",
            remedy="make one: `head -c 32 /dev/urandom > audit.key`; those who can write the run's"
            " files must not read it",
        )
    return key


def current_heads(run_dir: Path) -> list[HeadsLine]:
    """Where the logs in a run's folder end now; a line for each run that has files there, most
    often one. Files that cannot be read are left out."""
    found: dict[str, list[LogHead]] = {}
    with suppress(DataError):
        for path in run_files(run_dir):
            with suppress(DataError), RunReader(path) as reader:
                if (origin := reader.origin()) is not None:
                    end = reader.audit_head()
                    head = LogHead(rank=origin.rank, number=end.number, hash=end.hash)
                    found.setdefault(origin.run_key, []).append(head)
    folder, time = str(run_dir.absolute()), now()
    return [
        HeadsLine(time=time, run_dir=folder, run_key=key, heads=tuple(heads))
        for key, heads in found.items()
    ]


@dataclass(frozen=True)
class Anchor:
    """A file that lines are appended to, or a command that reads them from its standard input."""

    target: str

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """`FILE`, or `|COMMAND`; raises ConfigError for a file that cannot be appended to."""
        anchor = cls(text.strip())
        if (problem := anchor._problem()) is not None:
            raise ConfigError.for_field(
                "audit_anchor",
                value=text,
                allowed="a file that can be appended to, or '|COMMAND' that reads lines",
                remedy=f"choose another place: {problem}",
            )
        return anchor

    def append(self, lines: Sequence[HeadsLine]) -> None:
        """Write lines; raises MachineError where that fails."""
        text = "".join(line.model_dump_json() + "\n" for line in lines)
        try:
            if self._command:
                self._run(text)
            else:
                with Path(self.target).open("a") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError(
                f"where the logs end could not be written to {self.target}: {error}",
                remedy="mend that; `rudder audit heads RUN` prints the same lines",
            ) from None

    @property
    def _command(self) -> str:
        return self.target[1:].strip() if self.target.startswith("|") else ""

    def _run(self, text: str) -> None:
        subprocess.run(
            self._command, shell=True, check=True, text=True, input=text,
            timeout=_COMMAND_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _problem(self) -> str | None:
        """Why lines cannot be appended; makes no file."""
        if self.target in ("", "|"):
            return "it names neither a file nor a command"
        if self._command:
            return None
        try:
            os.close(os.open(self.target, os.O_WRONLY | os.O_APPEND))
        except FileNotFoundError:
            folder = Path(self.target).absolute().parent
            return None if os.access(folder, os.W_OK) else f"no file can be made in {folder}"
        except (OSError, ValueError) as error:
            return str(error)
        return None


def read_anchor(path: Path) -> Iterator[HeadsLine]:
    """The lines of an anchor's file, also with something before them as syslog writes.

    Raises DataError where it cannot be read, or a line is damaged.
    """
    try:
        with path.open() as file:
            for number, text in enumerate(file, start=1):
                _, begin, rest = text.partition(_BEGIN)
                if begin:
                    yield _parsed(begin + rest, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", remedy="name a file that --audit-anchor wrote"
        ) from None


def _parsed(text: str, place: str) -> HeadsLine:
    try:
        return HeadsLine.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise DataError(
            f"{place} is damaged: {where}{first['msg']}", remedy="restore it, or use another anchor"
        ) from None
