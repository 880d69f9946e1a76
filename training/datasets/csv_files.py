"""The user's own graph as nodes.csv and edges.csv; docs/datasets.md has the format.

Ids, splits and labels are read as the texts that the file has, so that 007 and 7 are two ids.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

from rudder.training.datasets import columns
from rudder.training.datasets.graph import BoolArray, Graph, IntArray
from rudder.training.errors import DataError, shown
from rudder.training.progress import Count, Counted, uncounted

_TEXTS = (columns.ID, columns.LABEL, columns.SPLIT)
_EXACT_FLOATS = 2**53
"""From here on float64 does not hold every whole number."""
_CHUNK_BYTES = 1 << 24
_MOST_LETTERS = 2**31 - 1
"""Of a cell. Pandas knows no limit, and Python's own of 128 KiB would hide what is wrong."""


def load_csv(folder: Path, *, count: Count = uncounted) -> Graph:
    """Read nodes.csv and edges.csv; raises DataError that names file, column and line.

    count: told how much of a file is read.
    """
    nodes = CsvTable(folder / "nodes.csv", count)
    edges = CsvTable(folder / "edges.csv", count)
    node_cells = nodes.read(required=("id", "split"), texts=_TEXTS, dtype="str")
    edge_cells = edges.read(required=("src", "dst"), texts=("src", "dst"), dtype="category")
    columns.check_edge_names(edges, list(edge_cells))
    split = columns.splits(nodes, node_cells["split"].str.strip())
    labels, num_classes = _labels(nodes, node_cells)
    ids = node_cells["id"].str.strip()
    index = columns.index_of(nodes, ids, missing=(ids == "").to_numpy())
    weights = columns.WEIGHT in edge_cells
    return Graph(
        name=f"csv:{folder.name}",
        src=_ends(edges, edge_cells["src"], index),
        dst=_ends(edges, edge_cells["dst"], index),
        features=_numbers(nodes, node_cells, columns.feature_columns(nodes, list(node_cells))),
        labels=labels,
        train_mask=split == "train",
        val_mask=split == "val",
        test_mask=split == "test",
        num_classes=num_classes,
        multilabel=labels.ndim == 2,
        weight=columns.as_weights(edges, _exact(edges, edge_cells, "weight")) if weights else None,
        source={"file": str(folder)},
    )


@dataclass(frozen=True)
class CsvTable:
    """One CSV file."""

    path: Path
    count: Count = uncounted

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def read(self, *, required: Sequence[str], texts: Sequence[str], dtype: str) -> pd.DataFrame:
        """All columns, those in `texts` as they stand; an empty cell stays an empty text."""
        try:
            header = self._header(required)
            _check_widths(self.path, len(header))
            with io.BufferedReader(_CountedFile(self.path, self.count), _CHUNK_BYTES) as file:
                return pd.read_csv(
                    file, header=0, names=header, index_col=False,
                    dtype=dict.fromkeys(texts, dtype), keep_default_na=False, skipinitialspace=True,
                    low_memory=False,
                )  # fmt: skip
        except FileNotFoundError:
            raise DataError(
                f"there is no file {self.path}", remedy="check the folder after csv:"
            ) from None
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(
                f"{self.path} is not a readable CSV file: {error}", remedy=columns.SEE_DOCS
            ) from None

    def _header(self, required: Sequence[str]) -> list[str]:
        """The names of the columns: each has one of its own, and those required are there."""
        _, cells = next(_records(self.path), (0, []))
        header = [cell.strip() for cell in cells]
        if not header:
            raise ValueError("it is empty")
        columns.check_names(self, header, required=required)
        return header

    def refuse(self, column: str, bad: BoolArray, *, allowed: str, remedy: str) -> NoReturn:
        """Raise DataError with the line of the first bad cell, and what the file has there."""
        records = _records(self.path)
        place = [cell.strip() for cell in next(records)[1]].index(column)
        line, cells = next(islice(records, int(np.flatnonzero(bad)[0]), None))
        raise DataError(
            f"{self.path} line {line}: {column} = {shown(cells[place])} is not allowed;"
            f" allowed: {allowed}",
            remedy=f"{remedy} ({int(bad.sum()):,} such)",
        )


class _CountedFile(io.FileIO):
    """Tells how much of it was read."""

    def __init__(self, path: Path, count: Count) -> None:
        super().__init__(path)
        self._what, self._count, self._done = f"reading {path.name}", count, 0
        self._total = path.stat().st_size

    def readinto(self, buffer: Any, /) -> int:
        num_bytes = super().readinto(buffer) or 0
        self._done += num_bytes
        done, total = self._done >> 20, self._total >> 20
        self._count(Counted(what=self._what, done=done, total=total, unit="MiB"))
        return num_bytes


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not empty, the header first; slow and exact."""
    csv.field_size_limit(_MOST_LETTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, skipinitialspace=True)
        yield from ((reader.line_num, cells) for cells in reader if cells)


def _check_widths(path: Path, width: int) -> None:
    """Refuse lines with more or fewer cells than the header, which pandas shifts or fills."""
    if all(_widths_are(width, chunk) for chunk in _chunks(path)):
        return
    for line, cells in _records(path):
        if len(cells) != width:
            raise DataError(
                f"{path} line {line} has {len(cells)} cells ({shown(','.join(cells))});"
                f" the header has {width}",
                remedy="give each line one cell per column; put quotes around a text with commas",
            )


def _chunks(path: Path) -> Iterator[bytes]:
    """The file in pieces that end where a line ends."""
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            yield whole + newline
        yield rest + b"\n" if rest else b""


def _widths_are(width: int, chunk: bytes) -> bool:
    """Whether all lines have so many cells; False also where quotes make that hard to say."""
    if b'"' in chunk or chunk.count(b"\r") != chunk.count(b"\r\n"):
        return False
    letters = np.frombuffer(chunk, dtype=np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    commas = np.diff(np.searchsorted(np.flatnonzero(letters == ord(",")), ends), prepend=0)
    is_empty = np.diff(ends, prepend=-1) == 1
    return bool(((commas == width - 1) | is_empty).all())


def _ends(edges: CsvTable, column: pd.Series, ids: pd.Index) -> IntArray:
    """The row numbers in nodes.csv of the ids in an edge column."""
    categories = pd.Index(column.cat.categories).astype(ids.dtype).str.strip()
    found = ids.get_indexer(categories)[column.cat.codes.to_numpy()]
    return columns.check_ends(edges, str(column.name), found, nodes="nodes.csv")


def _labels(nodes: CsvTable, cells: pd.DataFrame) -> tuple[columns.LabelArray, int]:
    """Labels and number of classes, from a column `label` or the columns `label:NAME`."""
    if sets := columns.label_columns(nodes, list(cells)):
        return _numbers(nodes, cells, sets), len(sets)
    return columns.labels_of_texts(nodes, cells["label"].str.strip())


def _numbers(nodes: CsvTable, cells: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float32]:
    values = np.empty((len(cells), len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        values[:, place] = columns.as_float32(nodes, name, _exact(nodes, cells, name))
    return values


def _exact(table: CsvTable, cells: pd.DataFrame, name: str) -> npt.NDArray[Any]:
    """The numbers of a column, NaN for a cell without one; whole ones of any size are exact."""
    exact: npt.NDArray[Any] = pd.to_numeric(cells[name], errors="coerce").to_numpy()
    is_finite = exact.dtype.kind != "f" or np.isfinite(exact).all()
    if is_finite and exact.dtype.kind == "f" and np.abs(exact).max(initial=0) >= _EXACT_FLOATS:
        return _whole_numbers(table.path, name, otherwise=exact)
    return exact


def _whole_numbers(path: Path, name: str, *, otherwise: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column as the file has it, without float64's rounding, if all of it is whole numbers."""
    records = (cells for _, cells in _records(path))
    place = [cell.strip() for cell in next(records)].index(name)
    numbers = [Decimal(cells[place].strip()) for cells in records]
    is_whole = all(number == number.to_integral_value() for number in numbers)
    return np.array([int(number) for number in numbers], dtype=object) if is_whole else otherwise
