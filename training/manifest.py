"""What a folder of partitions holds, and how it was made: `manifest.json` beside the parts.

It is the last file to be written, and it lists the others with their sizes and checksums: a folder
without a manifest, or with files that differ from it, is not a complete one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from rudder.training.checksums import StoredFile, changed_files, check_seal, sealed_json
from rudder.training.errors import JSON_ERRORS, DataError
from rudder.training.settings import Frozen

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
CHECKSUMS_NAME = "checksums.json"
"""In folders that others wrote: `rudder data --write-checksums` makes it."""
LOG_NAME = "prepare.log"
"""What DGL and METIS said; it may be changed or removed."""
NODE_IDS = "node_ids.npy"
"""Beside the parts: int64[n], each node's id in the user's graph, by its id in the parts."""
PART_FILE_NAME = "part.json"
FEATURE, LABEL, PHASE = "feat", "label", "seed_phase"
"""The names that prepared graphs give their node data."""
FeatureDtype = Literal["float32", "float16"]
CutMethod = Literal["metis", "random"]

_PREPARE_AGAIN = "remove that folder and run `rudder prepare` again"


class Recipe(Frozen):
    """What makes two prepared folders the same: the arguments of `rudder prepare`.

    dataset is a DatasetSpec's normal form; fingerprint tells edits of the user's own files apart.
    """

    dataset: str
    num_parts: int
    seed: int = 0
    undirected: bool = False
    feature_dtype: FeatureDtype = "float32"
    balance: bool = True
    method: CutMethod = "metis"
    fingerprint: str = ""

    def differences(self, other: Recipe) -> list[str]:
        """What is not the same in `other`: "name: this, not that", one per setting."""
        return [
            f"{name}: {mine!r}, not {theirs!r}"
            for name in Recipe.model_fields
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]


class PartSizes(Frozen):
    """One partition. Its edges are those that point at its inner nodes."""

    num_inner_nodes: int
    num_halo_nodes: int
    num_edges: int
    num_train: int


class PartIdentity(Frozen):
    """Which part of which preparation a folder holds: `part.json` in it."""

    preparation: str
    part: int

    @classmethod
    def read(cls, folder: Path) -> PartIdentity | None:
        """That of a part's folder; None where there is none, or it is damaged."""
        try:
            check_seal(content := dict(json.loads((folder / PART_FILE_NAME).read_text())))
            return cls.model_validate(content)
        except JSON_ERRORS:
            return None

    def write(self, folder: Path) -> Path:
        """Write it; returns the file."""
        file = folder / PART_FILE_NAME
        file.write_text(sealed_json(self))
        return file


class Contents(Frozen):
    """All files of a folder of partitions. preparation: tells preparations apart, "": not known."""

    files: tuple[StoredFile, ...]
    preparation: str = ""

    _remedy: ClassVar[str] = (
        "restore these files from a copy, or cut the graph again and write checksums again"
    )

    def verify(self, directory: Path) -> None:
        """Check that every part and file is there, with its size; raises DataError that names one.

        It reads no large file; `verify_content` does.
        """
        self._refuse(directory, [*self._foreign_parts(directory), *self._missing(directory)])

    def verify_content(self, directory: Path, *, part: int | None) -> None:
        """Read the files of a part, or (None) those of no part, and compare their checksums.

        Raises DataError that names one that has changed. Files of older versions have no checksum.
        """
        self._compare(directory, [file for file in self.files if _part_of(file.path) == part])

    def verify_all(self, directory: Path) -> None:
        """Do that for all files."""
        self._compare(directory, self.files)

    def _compare(self, directory: Path, files: Sequence[StoredFile]) -> None:
        try:
            self._refuse(directory, list(self._changed(directory, files)))
        except OSError as error:
            name = _name(Path(str(error.filename)).relative_to(directory).as_posix())
            self._refuse(directory, [f"{name}: {error.strerror}"])

    def _refuse(self, directory: Path, problems: list[str]) -> None:
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DataError(f"{directory} is damaged: {problems[0]}{more}", remedy=self._remedy)

    def _foreign_parts(self, directory: Path) -> Iterator[str]:
        """Parts that are swapped, or come from another preparation."""
        parts = {_part_of(file.path) for file in self.files if self.preparation}
        for part in sorted(part for part in parts if part is not None):
            found = PartIdentity.read(directory / f"part{part}")
            if found is None:
                continue  # its file is missing or damaged, which is found as such
            if found.preparation != self.preparation:
                yield f"part{part} comes from another preparation; parts of two are mixed"
            elif found.part != part:
                yield f"the folder part{part} holds part {found.part}; parts are swapped"

    def _missing(self, directory: Path) -> Iterator[str]:
        for file in self.files:
            if problem := file.size_problem(directory):
                yield _name(file.path) + problem

    def _changed(self, directory: Path, files: Sequence[StoredFile]) -> Iterator[str]:
        for file, found in changed_files(directory, files):
            others = [other.path for other in self.files if other.xxh3 == found]
            is_now = f"is {others[0]}" if others else "has another content than was written"
            yield f"{_name(file.path)} {is_now} (XXH3 {found}, not {file.xxh3})"


class Manifest(Recipe, Contents):
    """A recipe and what came of it. Edges are directed; a cut edge joins two partitions."""

    _remedy: ClassVar[str] = _PREPARE_AGAIN

    format_version: int = FORMAT_VERSION
    graph_name: str
    num_nodes: int
    num_edges: int
    feature_dim: int
    num_classes: int
    multilabel: bool
    has_seed_phase: bool
    num_train: int
    num_val: int
    num_test: int
    num_cut_edges: int
    parts: tuple[PartSizes, ...]
    source: dict[str, str | int | float]
    versions: dict[str, str]

    @property
    def cut_fraction(self) -> float:
        """Cut edges over all edges."""
        return self.num_cut_edges / self.num_edges

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's features."""
        return self.feature_dim * {"float32": 4, "float16": 2}[self.feature_dtype]

    @property
    def recipe(self) -> Recipe:
        """The arguments alone."""
        return Recipe(**self.model_dump(include=set(Recipe.model_fields)))

    def part_config(self, directory: Path) -> Path:
        """DistDGL's JSON of the partitioned graph."""
        return directory / f"{self.graph_name}.json"

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the manifest of a folder.

        Raises DataError if there is none, or it is damaged or of another format version.
        """
        path = directory / FILE_NAME
        try:
            content = dict(json.loads(path.read_text()))
            if (version := content.get("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
                raise DataError(
                    f"{path} has format version {version!r}; allowed: {FORMAT_VERSION}",
                    remedy=f"another version of Rudder wrote it; {_PREPARE_AGAIN}",
                )
            check_seal(content)
            return cls.model_validate(content)
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{directory} holds no prepared graph (it has no {FILE_NAME})",
                remedy=f"run `rudder prepare DATASET --parts N --out {directory}`",
            ) from None
        except JSON_ERRORS as error:
            raise DataError(f"{path} is damaged: {error}", remedy=_PREPARE_AGAIN) from None

    def write(self, directory: Path) -> None:
        """Write the manifest; call it when every other file is complete."""
        (directory / FILE_NAME).write_text(sealed_json(self))


def read_contents(directory: Path) -> Contents | None:
    """The files of a folder of partitions, of its manifest or of its own list; None: no such.

    Raises DataError if that is damaged.
    """
    if (directory / FILE_NAME).is_file():
        return Manifest.read(directory)
    path = directory / CHECKSUMS_NAME
    try:
        if not path.is_file():
            return None
        check_seal(content := dict(json.loads(path.read_text())))
        return Contents.model_validate(content)
    except JSON_ERRORS as error:
        raise DataError(
            f"{path} is damaged: {error}", remedy="write it again: `rudder data --write-checksums`"
        ) from None


def _part_of(path: str) -> int | None:
    found = re.match(r"part(\d+)/", path)
    return int(found[1]) if found else None


def _name(path: str) -> str:
    part = _part_of(path)
    return path if part is None else f"{path} (partition of host{part})"
