"""The user's own graph as nodes.csv and edges.csv; docs/datasets.md has the format.

Ids, splits and labels are read as the texts that the file has, so that 007 and 7 are two ids.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

from rudder.training.datasets.checks import check_told_apart
from rudder.training.datasets.graph import UNLABELLED, FloatArray, Graph, IntArray
from rudder.training.errors import DataError

LABEL_SET = "label:"
"""Prefix of the columns of a multi-label nodes.csv: one column of 0 and 1 per class."""
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test", "": ""}
_TEXTS = ("id", "label", "split")
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.0*)?")
_EXACT_FLOATS = 2**53
"""From here on float64 does not hold every whole number."""
_CHUNK_BYTES = 1 << 24
_SEE_DOCS = "docs/datasets.md describes the format"


def load_csv(folder: Path) -> Graph:
    """Read nodes.csv and edges.csv; raises DataError that names file, column and line."""
    nodes_path, edges_path = folder / "nodes.csv", folder / "edges.csv"
    nodes = _read(nodes_path, required=("id", "split"), texts=_TEXTS, dtype="str")
    edges = _read(edges_path, required=("src", "dst"), texts=("src", "dst"), dtype="category")
    _refuse_extra_columns(edges_path, edges)
    split = _split(nodes_path, nodes)
    labels, num_classes = _labels(nodes_path, nodes)
    ids = _ids(nodes_path, nodes)
    return Graph(
        name=f"csv:{folder.name}",
        src=_ends(edges_path, edges["src"], ids),
        dst=_ends(edges_path, edges["dst"], ids),
        features=_features(nodes_path, nodes),
        labels=labels,
        train_mask=split == "train",
        val_mask=split == "val",
        test_mask=split == "test",
        num_classes=num_classes,
        multilabel=labels.ndim == 2,
        source={"file": str(folder)},
    )


def _read(path: Path, *, required: Sequence[str], texts: Sequence[str], dtype: str) -> pd.DataFrame:
    """All columns, those in `texts` as they stand; an empty cell stays an empty text."""
    try:
        header = _header(path, required)
        _check_widths(path, len(header))
        return pd.read_csv(
            path, header=0, names=header, index_col=False, dtype=dict.fromkeys(texts, dtype),
            keep_default_na=False, skipinitialspace=True, low_memory=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", remedy="check the folder after csv:") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}", remedy=_SEE_DOCS) from None


def _header(path: Path, required: Sequence[str]) -> list[str]:
    """The names of the columns: each has one of its own, and those required are there."""
    _, cells = next(_records(path), (0, []))
    header = [cell.strip() for cell in cells]
    if not header:
        raise ValueError("it is empty")
    if "" in header:
        raise DataError(
            f"{path}: column {header.index('') + 1} has no name",
            remedy="name it if it is a feature, else leave it out (pandas writes its row numbers"
            " as such a column unless you say to_csv(..., index=False))",
        )
    if repeated := [name for k, name in enumerate(header) if name in header[:k]]:
        raise DataError(
            f"{path} has two columns {repeated[0]!r}", remedy="give each column a name of its own"
        )
    if missing := [name for name in required if name not in header]:
        raise DataError(
            f"{path} has no column {missing[0]!r}; it has: {', '.join(header)}",
            remedy=f"add the column {missing[0]}; {_SEE_DOCS}",
        )
    return header


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not empty, the header first; slow and exact."""
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
                f"{path} line {line} has {len(cells)} cells ({','.join(cells)});"
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


def _refuse_extra_columns(path: Path, edges: pd.DataFrame) -> None:
    if extra := sorted(set(edges.columns) - {"src", "dst"}):
        raise DataError(
            f"{path} has a column {extra[0]!r}; allowed: src, dst",
            remedy="leave it out: edges have no weights or types yet",
        )


def _refuse(
    path: Path, column: pd.Series, bad: npt.NDArray[np.bool_], *, allowed: str, remedy: str
) -> NoReturn:
    """Raise DataError with the line of the first bad cell, and what the file has there."""
    name, records = str(column.name), _records(path)
    place = [cell.strip() for cell in next(records)[1]].index(name)
    line, cells = next(islice(records, int(np.flatnonzero(bad)[0]), None))
    raise DataError(
        f"{path} line {line}: {name} = {cells[place]!r} is not allowed; allowed: {allowed}",
        remedy=f"{remedy} ({int(bad.sum()):,} such)",
    )


def _ids(path: Path, nodes: pd.DataFrame) -> pd.Index:
    ids = nodes["id"].str.strip()
    for bad, allowed in ((ids == "", "an id"), (ids.duplicated(), "each id once")):
        if bad.any():
            _refuse(path, ids, bad.to_numpy(), allowed=allowed, remedy="keep one line per node")
    return pd.Index(ids)


def _ends(path: Path, column: pd.Series, ids: pd.Index) -> IntArray:
    """The row numbers in nodes.csv of the ids in an edge column."""
    categories = pd.Index(column.cat.categories).astype(ids.dtype).str.strip()
    found = ids.get_indexer(categories)[column.cat.codes.to_numpy()]
    if (found < 0).any():
        _refuse(
            path,
            column,
            found < 0,
            allowed="an id of nodes.csv",
            remedy="add the node to nodes.csv, as it is written here, or take the edge out",
        )
    return np.asarray(found, dtype=np.int64)


def _split(path: Path, nodes: pd.DataFrame) -> npt.NDArray[np.str_]:
    column = nodes["split"].str.strip()
    unknown = (~column.isin(list(_SPLITS))).to_numpy()
    if unknown.any():
        _refuse(
            path,
            column,
            unknown,
            allowed="train, val, test or nothing",
            remedy="use these words; leave the cell empty for a node in no split",
        )
    return np.asarray(column.map(_SPLITS).to_numpy(), dtype=np.str_)


def _labels(path: Path, nodes: pd.DataFrame) -> tuple[IntArray | npt.NDArray[np.float32], int]:
    """Labels and number of classes, from a column `label` or the columns `label:NAME`."""
    sets = [name for name in nodes.columns if name.startswith(LABEL_SET)]
    if bool(sets) == ("label" in nodes):
        raise DataError(
            f"{path} has {'both' if sets else 'neither'} a column 'label' "
            f"{'and' if sets else 'nor'} columns '{LABEL_SET}NAME'; allowed: one of the two",
            remedy=_SEE_DOCS,
        )
    if sets:
        return _numbers(path, nodes, sets), len(sets)
    return _classes(path, nodes["label"].str.strip())


def _classes(path: Path, column: pd.Series) -> tuple[IntArray, int]:
    """Whole numbers are classes as they stand; texts are numbered in their order."""
    names = sorted(set(column) - {""})
    if not names:
        raise DataError(f"{path}: label is empty on every line", remedy="give the nodes labels")
    if all(_WHOLE_NUMBER.fullmatch(name) for name in names):
        numbers = {name: int(name.partition(".")[0]) for name in names}
        labels = np.asarray(column.map(numbers | {"": UNLABELLED}).to_numpy(), dtype=np.int64)
        return labels, int(labels.max()) + 1
    return np.asarray(pd.Index(names).get_indexer(pd.Index(column)), dtype=np.int64), len(names)


def _features(path: Path, nodes: pd.DataFrame) -> FloatArray:
    """Every other column, in the order of the file."""
    names = [
        name for name in nodes.columns if name not in _TEXTS and not name.startswith(LABEL_SET)
    ]
    if not names:
        raise DataError(
            f"{path} has no feature column; it has: {', '.join(nodes.columns)}",
            remedy="add a column of numbers; a node's degree will do",
        )
    return _numbers(path, nodes, names)


def _numbers(path: Path, nodes: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float32]:
    values = np.empty((len(nodes), len(names)), dtype=np.float32)
    for position, name in enumerate(names):
        exact = pd.to_numeric(nodes[name], errors="coerce").to_numpy()
        numbers = exact.astype(np.float64)
        bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
        if bad.any():
            _refuse(
                path,
                nodes[name],
                bad,
                allowed="a finite number",
                remedy="fill in missing numbers; take texts out or encode them",
            )
        if exact.dtype.kind == "f" and np.abs(numbers).max(initial=0) >= _EXACT_FLOATS:
            exact = _whole_numbers(path, name, otherwise=exact)
        check_told_apart(exact, np.dtype(np.float32), where=f"{path}: column {name!r}")
        values[:, position] = numbers
    return values


def _whole_numbers(path: Path, name: str, *, otherwise: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A column as the file has it, without float64's rounding, if all of it is whole numbers."""
    records = (cells for _, cells in _records(path))
    place = [cell.strip() for cell in next(records)].index(name)
    numbers = [Decimal(cells[place].strip()) for cells in records]
    is_whole = all(number == number.to_integral_value() for number in numbers)
    return np.array([int(number) for number in numbers], dtype=object) if is_whole else otherwise
