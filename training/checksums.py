"""Checksums of files, to notice what a disk, a copy or another program has changed in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, field_validator

from rudder.training.settings import Frozen

_CHUNK_BYTES = 1 << 23
"""So large that other Python threads hardly slow it down: it runs without the GIL."""
_SEAL = "xxh3_of_the_rest"
_THREADS = 4
"""Hashing is bound by the disk; a few files at once keep it busy."""


def checksum(path: Path) -> str:
    """The XXH3 (128 bit) of a file, in hexadecimal; raises OSError.

    It finds damage, not forgery.
    """
    digest = xxhash.xxh3_128()
    chunk = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while num_bytes := file.readinto(chunk):
            digest.update(chunk[:num_bytes])
    return digest.hexdigest()


def sealed_json(value: BaseModel) -> str:
    """A value as JSON, with a checksum of all its fields."""
    content = json.loads(value.model_dump_json())
    return json.dumps({**content, _SEAL: _digest(content)}, indent=2) + "\n"


def check_seal(content: dict[str, Any]) -> None:
    """Raises ValueError if a field of what `sealed_json` wrote was changed.

    What earlier versions wrote has no checksum, and passes.
    """
    rest = {name: value for name, value in content.items() if name != _SEAL}
    if content.get(_SEAL, now := _digest(rest)) != now:
        raise ValueError(f"it is not as it was written (XXH3 {now}, not {content[_SEAL]})")


def _digest(content: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())


class StoredFile(Frozen):
    """A file as it was written: path relative to its folder, size, and XXH3 ("": not known)."""

    path: str
    num_bytes: int
    xxh3: str = ""

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        """Refuse what no file can be called: damaged JSON may hold it."""
        if "\0" in path or any("\ud800" <= letter <= "\udfff" for letter in path):
            raise ValueError("no file can have this name")
        return path

    @classmethod
    def of(cls, directory: Path, path: Path) -> StoredFile:
        """Measure a file under `directory`."""
        return cls(
            path=path.relative_to(directory).as_posix(),
            num_bytes=path.stat().st_size,
            xxh3=checksum(path),
        )

    def size_problem(self, directory: Path) -> str | None:
        """How the file's size differs from what was written; None if it does not."""
        try:
            num_bytes = (directory / self.path).stat().st_size
        except OSError as error:
            return f": {error.strerror}"
        if num_bytes == self.num_bytes:
            return None
        return f" has {num_bytes:,} bytes, not {self.num_bytes:,}"


def stored_files(directory: Path, paths: Iterable[Path]) -> tuple[StoredFile, ...]:
    """Measure files, several at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(pool.map(lambda path: StoredFile.of(directory, path), paths))


def changed_files(directory: Path, files: Iterable[StoredFile]) -> Iterator[tuple[StoredFile, str]]:
    """The files whose content is not what was written, with the XXH3 that each has now.

    Several are read at a time. Files without a known checksum are skipped. Raises OSError.
    """
    known = [file for file in files if file.xxh3]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda file: checksum(directory / file.path), known)
        yield from ((file, now) for file, now in zip(known, found, strict=True) if now != file.xxh3)
