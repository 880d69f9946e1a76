"""The user's own graph as Parquet files of nodes and of edges; docs/datasets.md has the format.

Only one column is in memory at a time, beside the graph that is made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq

from rudder.training.datasets import columns
from rudder.training.datasets.graph import BoolArray, Graph, IntArray
from rudder.training.errors import DataError, shown
from rudder.training.progress import Count, Counted, uncounted

_ROWS_AT_ONCE = 1 << 18
_PANDAS_INDEX = "__index_level_"


def load_parquet(folder: Path, *, count: Count = uncounted) -> Graph:
    """Read the tables `nodes` and `edges`; raises DataError that names file, column and row.

    count: told how many rows of a column are read.
    """
    nodes, edges = (ParquetTable.find(folder, each, count=count) for each in ("nodes", "edges"))
    columns.check_names(nodes, nodes.columns, required=("id", "split"))
    columns.check_names(edges, edges.columns, required=("src", "dst"))
    columns.check_edge_names(edges, edges.columns)
    split = columns.splits(nodes, nodes.texts("split"))
    labels, num_classes = _labels(nodes)
    features = _numbers(nodes, columns.feature_columns(nodes, nodes.columns))
    ids = _joined(list(nodes.ids("id")))
    index = columns.index_of(nodes, ids, missing=ids.isna().to_numpy())
    has_weights = columns.WEIGHT in edges.columns
    return Graph(
        name=f"parquet:{folder.name}",
        src=_ends(edges, "src", index, nodes),
        dst=_ends(edges, "dst", index, nodes),
        features=features,
        labels=labels,
        train_mask=split == "train",
        val_mask=split == "val",
        test_mask=split == "test",
        num_classes=num_classes,
        multilabel=labels.ndim == 2,
        weight=columns.as_weights(edges, edges.numbers("weight")) if has_weights else None,
        source={"file": str(folder)},
    )


def table_files(folder: Path, table: str) -> tuple[Path, ...]:
    """The files of a table: `TABLE.parquet`, or the `*.parquet` in a folder `TABLE[.parquet]`.

    Raises DataError if there is not one such table, or it was not written to its end.
    """
    found = [path for path in (folder / table, folder / f"{table}.parquet") if path.exists()]
    if len(found) != 1:
        raise DataError(
            f"{folder} has {'two tables' if found else 'no table'} of {table}; allowed: one of"
            f" {table}.parquet (a file, or a folder of files) and the folder {table}",
            remedy=f"check the folder after parquet:; {columns.SEE_DOCS}",
        )
    if found[0].is_file():
        return (found[0],)
    inside = sorted(found[0].iterdir())
    if unfinished := [path for path in inside if path.name == "_temporary"]:
        raise DataError(
            f"{unfinished[0]} is there, so the job that wrote {found[0]} has not finished",
            remedy="wait for it, or run it again",
        )
    visible = [path for path in inside if path.name[0] not in "._"]
    if folders := [path for path in visible if path.is_dir()]:
        raise DataError(
            f"{found[0]} has a folder {folders[0].name}; allowed: Parquet files only",
            remedy="write the table without partitionBy, which keeps columns in folders' names",
        )
    files = tuple(path for path in visible if path.suffix == ".parquet")
    if not files:
        raise DataError(
            f"{found[0]} has no file *.parquet", remedy="check the folder after parquet:"
        )
    return files


@dataclass(frozen=True)
class ParquetTable:
    """One table in any number of files, which have the same columns."""

    name: str
    files: tuple[Path, ...]
    schema: pa.Schema
    file_rows: tuple[int, ...]
    count: Count = uncounted

    @classmethod
    def find(cls, folder: Path, table: str, *, count: Count = uncounted) -> ParquetTable:
        """Open the table's files; raises DataError for one that differs from the first."""
        files = table_files(folder, table)
        schemas, rows = [], []
        for file in files:
            with _open(file) as opened:
                schemas.append(opened.schema_arrow.remove_metadata())
                _ = schemas[-1].names  # read here, where a garbled one is answered
                rows.append(opened.metadata.num_rows)
            if not schemas[-1].equals(schemas[0]):
                raise DataError(
                    f"{file} has other columns than {files[0].name}: "
                    + _difference(schemas[-1], schemas[0]),
                    remedy="write all files of a table with the same columns, in one job",
                )
        name = str(files[0] if len(files) == 1 else files[0].parent)
        found = cls(name, files, schemas[0], tuple(rows), count)
        if kept := [name for name in found.columns if name.startswith(_PANDAS_INDEX)]:
            raise DataError(
                f"{name} has a column {kept[0]!r}, in which pandas keeps its row names",
                remedy="write it with to_parquet(..., index=False), or name the column",
            )
        return found

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return sum(self.file_rows)

    def texts(self, column: str) -> pd.Series:
        """A column of texts, "" where it is null; refuses other types."""
        if not _is_text(self.kind(column)):
            self.refuse_type(column, "texts")
        pieces = [cells.to_pandas() for cells in self.cells(column)]
        return _joined(pieces).fillna("")

    def ids(self, column: str) -> Iterator[pd.Series]:
        """A column of ids, texts or int64 as the file has them, piece by piece; NA where null."""
        kind = self.kind(column)
        if not (_is_text(kind) or pa.types.is_integer(kind)):
            self.refuse_type(column, "texts or whole numbers")
        for cells in self.cells(column):
            whole = cells if _is_text(kind) else _as_int64(self.name, column, cells)
            yield whole.to_pandas(integer_object_nulls=True)

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """A column of numbers, [n], or of lists of one length, [n, width]; NaN where it is null."""
        kind = self.kind(column)
        item = kind.value_type if _is_list(kind) else kind
        if not (pa.types.is_integer(item) or pa.types.is_floating(item) or _is_bool(item)):
            self.refuse_type(column, "numbers, or lists of numbers")
        pieces = [self._as_array(column, cells) for cells in self.cells(column)]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.float32)

    def refuse(self, column: str, bad: BoolArray, *, allowed: str, remedy: str) -> NoReturn:
        """Raise DataError with file and row (from 1) of the first bad cell."""
        row = int(np.flatnonzero(bad)[0])
        ends = np.cumsum(self.file_rows)
        place = int(np.searchsorted(ends, row, side="right"))
        row -= int(ends[place]) - self.file_rows[place]
        with _open(self.files[place]) as file:
            cell = file.read(columns=[column]).column(0)[row].as_py()
        raise DataError(
            f"{self.files[place]} row {row + 1}: {column} = {shown(cell)} is not allowed;"
            f" allowed: {allowed}",
            remedy=f"{remedy} ({int(bad.sum()):,} such)",
        )

    def refuse_type(self, column: str, allowed: str) -> NoReturn:
        """Raise DataError for a column of another type."""
        raise DataError(
            f"{self.name}: column {column!r} has type {self.schema.field(column).type}; allowed:"
            f" {allowed}",
            remedy=f"cast it before it is written, or leave it out; {columns.SEE_DOCS}",
        )

    def kind(self, column: str) -> pa.DataType:
        """The type of a column's cells."""
        kind = self.schema.field(column).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def cells(self, column: str) -> Iterator[pa.Array]:
        """The cells of a column, some at a time."""
        done, what = 0, f"reading {column} of {Path(self.name).stem}"
        for path in self.files:
            with _open(path) as file:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                    cells = batch.column(column)
                    cells.validate(full=True)  # texts are UTF-8
                    is_coded = pa.types.is_dictionary(cells.type)
                    yield cells.dictionary_decode() if is_coded else cells
                    done += len(cells)
                    self.count(Counted(what=what, done=done, total=self.num_rows, unit="rows"))

    def _as_array(self, column: str, cells: pa.Array) -> npt.NDArray[Any]:
        if not _is_list(cells.type):
            return _flat_array(cells)
        lengths = {None if length is None else int(length) for length in _lengths(cells)}
        if len(lengths) > 1 or None in lengths:
            found = ", ".join(sorted("no" if n is None else str(n) for n in lengths))
            raise DataError(
                f"{self.name}: lists of column {column!r} have {found} numbers; allowed: as many"
                " in each row",
                remedy="fill the lists up to one length",
            )
        return _flat_array(cells.flatten()).reshape(len(cells), -1)


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """A file; whatever is wrong with it, also while it is read, is a DataError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path} is not a readable Parquet file: {error}",
            remedy="write it again; a file that a job did not finish has no footer",
        ) from None


def _difference(schema: pa.Schema, first: pa.Schema) -> str:
    mine, other = ([f"{field.name}: {field.type}" for field in each] for each in (schema, first))
    differing = sorted(set(mine) ^ set(other)) or ["their order"]
    return ", ".join(differing[:4])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bool(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _lengths(cells: pa.Array) -> list[int | None]:
    lengths: list[int | None] = cells.value_lengths().unique().to_pylist()
    return lengths


def _flat_array(cells: pa.Array) -> npt.NDArray[Any]:
    """Numbers, NaN for null."""
    numbers = cells.cast(pa.uint8()) if _is_bool(cells.type) else cells
    return np.asarray(numbers.to_numpy(zero_copy_only=False))


def _as_int64(table: str, column: str, cells: pa.Array) -> pa.Array:
    try:
        return cells.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{table}: column {column!r} has ids beyond int64: {error}",
            remedy="write such ids as texts",
        ) from None


def _joined(pieces: Sequence[pd.Series]) -> pd.Series:
    return pd.concat(pieces, ignore_index=True) if pieces else pd.Series(dtype=str)


def _ends(edges: ParquetTable, column: str, index: pd.Index, nodes: ParquetTable) -> IntArray:
    """The row numbers in `nodes` of the ids in an edge column."""
    if _is_text(edges.kind(column)) != _is_text(nodes.kind("id")):
        edges.refuse_type(column, f"{nodes.kind('id')}, the type of id in {nodes.name}")
    pieces = [index.get_indexer(pd.Index(piece)) for piece in edges.ids(column)]
    found = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
    return columns.check_ends(edges, column, found, nodes=nodes.name)


def _labels(nodes: ParquetTable) -> tuple[columns.LabelArray, int]:
    """Labels and number of classes: of `label`, texts, numbers or lists, or of `label:NAME`."""
    if sets := columns.label_columns(nodes, nodes.columns):
        return _numbers(nodes, sets), len(sets)
    if _is_text(nodes.kind("label")):
        return columns.labels_of_texts(nodes, nodes.texts("label"))
    exact = nodes.numbers("label")
    if exact.ndim == 2:
        return columns.as_float32(nodes, "label", exact), exact.shape[1]
    return columns.labels_of_numbers(nodes, exact)


def _numbers(nodes: ParquetTable, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32[rows, width]: the columns side by side; one column at a time is read."""
    widths = [_width(nodes, name) for name in names]
    values = np.empty((nodes.num_rows, sum(widths)), dtype=np.float32)
    for name, end, width in zip(names, np.cumsum(widths), widths, strict=True):
        cells = columns.as_float32(nodes, name, nodes.numbers(name))
        values[:, end - width : end] = cells.reshape(-1, width)
    return values


def _width(nodes: ParquetTable, column: str) -> int:
    """Numbers in a cell, by the first row."""
    if not _is_list(nodes.kind(column)):
        return 1
    first = next(nodes.cells(column), None)
    return len(first[0]) if first is not None and len(first) and first[0].is_valid else 0
