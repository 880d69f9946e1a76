"""What a folder of partitions holds, and how it was made: `manifest.json` beside the parts.

It is the last file to be written, and it lists the others with their sizes: a folder without a
manifest, or with files that differ from it, is not a complete one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from rudder.training.errors import DataError
from rudder.training.settings import Frozen

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
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


class FileSize(Frozen):
    """A file of the folder, by its path relative to it."""

    path: str
    num_bytes: int

    @classmethod
    def of(cls, directory: Path, path: Path) -> FileSize:
        """Measure a file under `directory`."""
        return cls(path=path.relative_to(directory).as_posix(), num_bytes=path.stat().st_size)


class Manifest(Recipe):
    """A recipe and what came of it. Edges are directed; a cut edge joins two partitions."""

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
    files: tuple[FileSize, ...]
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
            content = json.loads(path.read_text())
            if (version := dict(content).get("format_version", FORMAT_VERSION)) != FORMAT_VERSION:
                raise DataError(
                    f"{path} has format version {version!r}; allowed: {FORMAT_VERSION}",
                    remedy=f"another version of Rudder wrote it; {_PREPARE_AGAIN}",
                )
            return cls.model_validate(content)
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{directory} holds no prepared graph (it has no {FILE_NAME})",
                remedy=f"run `rudder prepare DATASET --parts N --out {directory}`",
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}", remedy=_PREPARE_AGAIN) from None

    def write(self, directory: Path) -> None:
        """Write the manifest; call it when every other file is complete."""
        (directory / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n")

    def verify(self, directory: Path) -> None:
        """Check that every file is there with its size; raises DataError that names one."""
        problems = list(self._problems(directory))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise DataError(f"{directory} is damaged: {problems[0]}{more}", remedy=_PREPARE_AGAIN)

    def _problems(self, directory: Path) -> Iterable[str]:
        for file in self.files:
            part = re.match(r"part(\d+)/", file.path)
            name = f"{file.path} (partition of host{part[1]})" if part else file.path
            try:
                num_bytes = (directory / file.path).stat().st_size
            except OSError as error:
                yield f"{name}: {error.strerror}"
                continue
            if num_bytes != file.num_bytes:
                yield f"{name} has {num_bytes:,} bytes, not {file.num_bytes:,}"
