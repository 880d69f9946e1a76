"""From the name of a dataset to its graph."""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.graph import Graph
from rudder.training.datasets.synthetic import PRESETS
from rudder.training.errors import ConfigError, DataError
from rudder.training.progress import Count, uncounted

OGB_NAMES = ("ogbn-arxiv", "ogbn-products", "ogbn-papers100M")

FORMS = {
    "synthetic": tuple(f"synthetic:{name}" for name in PRESETS),
    "debian": ("debian",),
    "ogb": tuple(f"ogb:{name}" for name in OGB_NAMES),
    "reddit": ("reddit",),
    "yelp": ("yelp",),
    "npz": ("npz:PATH",),
    "csv": ("csv:DIR",),
    "parquet": ("parquet:DIR",),
}
"""What may be written, by kind."""
CSV_FILES = ("nodes.csv", "edges.csv")
_OWN = ("npz", "csv", "parquet")
"""Kinds that are read from the user's own files."""


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset's name in its normal form; paths are absolute, `arxiv` is `ogbn-arxiv`."""

    kind: str
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> DatasetSpec:
        """Read a name; raises ConfigError that lists what is allowed and what is close."""
        kind, _, argument = text.strip().partition(":")
        if kind in _OWN and argument:
            return cls(kind, str(Path(argument).expanduser().resolve()))
        if kind == "ogb" and f"ogbn-{argument}" in OGB_NAMES:
            return cls(kind, f"ogbn-{argument}")
        if text.strip() not in FORMS.get(kind, ()) or kind in _OWN:
            raise _unknown(text)
        return cls(kind, argument)

    def __str__(self) -> str:
        """The name as `parse` reads it."""
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def files(self) -> tuple[Path, ...]:
        """The user's own files that the graph is read from; none for other kinds.

        Raises DataError for a folder without tables of Parquet files.
        """
        folder = Path(self.argument)
        match self.kind:
            case "npz":
                return (folder,)
            case "csv":
                return tuple(folder / name for name in CSV_FILES)
            case "parquet":
                from rudder.training.datasets.parquet_files import table_files

                return (*table_files(folder, "nodes"), *table_files(folder, "edges"))
        return ()

    @property
    def slug(self) -> str:
        """A short name of letters, digits and dashes; names DistDGL's files and shared memory."""
        argument = Path(self.argument).stem if self.kind in _OWN else self.argument
        return re.sub(r"[^a-z0-9]+", "-", f"{self.kind}-{argument}".lower()).strip("-")[:40]

    @property
    def folder_name(self) -> str:
        """`slug`, and a hash where it alone could mean two datasets (two paths, one file name)."""
        if self.kind not in _OWN:
            return self.slug
        return f"{self.slug}-{zlib.crc32(self.argument.encode()):08x}"

    def fingerprint(self) -> str:
        """Sizes and times of the user's files, "" for other kinds; tells edited files apart.

        Raises DataError if a file is missing.
        """
        return " ".join(_fingerprint(path) for path in self.files)


def _fingerprint(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"there is no file {path} ({error.strerror})",
            remedy="check the path after the colon; docs/datasets.md describes the formats",
        ) from None
    return f"{path.name}:{status.st_size}:{status.st_mtime_ns}"


def _unknown(text: str) -> ConfigError:
    known = [form for forms in FORMS.values() for form in forms]
    same = [form for form in known if form.partition(":")[2] == text]
    close = same or difflib.get_close_matches(text, known, n=3)
    return ConfigError.for_field(
        "dataset",
        value=text,
        allowed=", ".join(known),
        remedy=f"did you mean {' or '.join(close)}?" if close else "choose one of these",
    )


def load_dataset(
    spec: str,
    *,
    seed: int,
    undirected: bool = False,
    progress: Callable[[str], None],
    count: Count = uncounted,
) -> Graph:
    """Load, check and, if asked, make undirected the graph that `spec` names.

    `seed` draws synthetic graphs and the splits of `debian`; files and public datasets bring
    their own splits. `progress` is told what happens, `count` how far it is.

    Raises ConfigError for an unknown name, DataError for a graph that cannot be used or had, and
    MachineError where a library is missing.
    """
    name = DatasetSpec.parse(spec)
    progress(f"loading {name}")
    loaded = _load(name, seed=seed, progress=progress, count=count)
    graph = check_graph(replace(loaded, name=str(name)))
    if undirected:
        if graph.weight is not None:
            raise ConfigError(
                f"undirected is not allowed for {graph.name}, whose edges have weights",
                remedy="list each edge in both directions, each with its weight",
            )
        progress("adding the reverse of every edge")
        graph = graph.with_reverse_edges()
    return graph


def _load(name: DatasetSpec, *, seed: int, progress: Callable[[str], None], count: Count) -> Graph:
    """Each branch imports its own loader: pandas, dgl and ogb take seconds to import."""
    match name.kind:
        case "synthetic":
            from rudder.training.datasets.synthetic import load_synthetic

            return load_synthetic(name.argument, seed=seed)
        case "debian":
            from rudder.training.datasets.debian import load_debian

            return load_debian(seed=seed, progress=progress)
        case "npz":
            from rudder.training.datasets.npz_file import load_npz

            return load_npz(Path(name.argument))
        case "csv":
            from rudder.training.datasets.csv_files import load_csv

            return load_csv(Path(name.argument), count=count)
        case "parquet":
            from rudder.training.datasets.parquet_files import load_parquet

            return load_parquet(Path(name.argument), count=count)
        case "ogb":
            from rudder.training.datasets.public import load_ogb

            return load_ogb(name.argument, progress=progress)
        case "reddit" | "yelp":
            from rudder.training.datasets.public import load_dgl

            return load_dgl(name.kind, progress=progress)
        case _:
            raise AssertionError(f"DatasetSpec.parse let {name} through")
