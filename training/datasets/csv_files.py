"""The user's own graph as nodes.csv and edges.csv; docs/datasets.md has the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

from rudder.training.datasets.graph import UNLABELLED, FloatArray, Graph, IntArray
from rudder.training.errors import DataError

LABEL_SET = "label:"
"""Prefix of the columns of a multi-label nodes.csv: one column of 0 and 1 per class."""
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test", "": ""}
_FIRST_LINE = 2
"""Line of the first row: the header is line 1."""
_SEE_DOCS = "docs/datasets.md describes the format"


def load_csv(folder: Path) -> Graph:
    """Read nodes.csv and edges.csv; raises DataError that names file, column and line."""
    nodes_path, edges_path = folder / "nodes.csv", folder / "edges.csv"
    nodes = _read(nodes_path, required=("id", "split"))
    edges = _read(edges_path, required=("src", "dst"))
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


def _read(path: Path, *, required: Sequence[str]) -> pd.DataFrame:
    """All columns; an empty cell stays an empty text, so that no id is taken for a NaN."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, skipinitialspace=True, low_memory=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", remedy="check the folder after csv:") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}", remedy=_SEE_DOCS) from None
    for name in required:
        if name not in frame:
            raise DataError(
                f"{path} has no column {name!r}; it has: {', '.join(map(str, frame.columns))}",
                remedy=f"add the column {name}; {_SEE_DOCS}",
            )
    return frame


def _refuse_extra_columns(path: Path, edges: pd.DataFrame) -> None:
    if extra := sorted(set(edges.columns) - {"src", "dst"}):
        raise DataError(
            f"{path} has a column {extra[0]!r}; allowed: src, dst",
            remedy="leave it out: edges have no weights or types yet",
        )


def _cell(path: Path, column: pd.Series, bad: npt.NDArray[np.bool_]) -> str:
    """Where the first bad cell is, and what stands there."""
    row = int(np.flatnonzero(bad)[0])
    return f"{path} line {row + _FIRST_LINE}: {column.name} = {column.iloc[row]!r}"


def _ids(path: Path, nodes: pd.DataFrame) -> pd.Index:
    column = nodes["id"]
    repeated = column.duplicated().to_numpy()
    if repeated.any():
        raise DataError(
            f"{_cell(path, column, repeated)} is not allowed; allowed: each id once",
            remedy="keep one line per node",
        )
    return pd.Index(column)


def _ends(path: Path, column: pd.Series, ids: pd.Index) -> IntArray:
    """The row numbers in nodes.csv of the ids in an edge column."""
    if column.dtype != ids.dtype:
        ids = ids.astype(str)
        found = ids.get_indexer(pd.Index(column.astype(str)))
    else:
        found = ids.get_indexer(pd.Index(column))
    missing = found < 0
    if missing.any():
        raise DataError(
            f"{_cell(path, column, missing)} is not allowed; allowed: an id of nodes.csv",
            remedy=f"add the node to nodes.csv or take the edge out ({int(missing.sum())} such)",
        )
    return np.asarray(found, dtype=np.int64)


def _split(path: Path, nodes: pd.DataFrame) -> npt.NDArray[np.str_]:
    column = nodes["split"].astype(str)
    unknown = (~column.isin(list(_SPLITS))).to_numpy()
    if unknown.any():
        raise DataError(
            f"{_cell(path, column, unknown)} is not allowed; allowed: train, val, test or nothing",
            remedy="use these words; leave the cell empty for a node in no split",
        )
    return np.asarray(column.map(_SPLITS).to_numpy(), dtype=np.str_)


def _labels(path: Path, nodes: pd.DataFrame) -> tuple[IntArray | npt.NDArray[np.float32], int]:
    """Labels and number of classes, from a column `label` or the columns `label:NAME`."""
    sets = [name for name in nodes.columns if str(name).startswith(LABEL_SET)]
    if bool(sets) == ("label" in nodes):
        raise DataError(
            f"{path} has {'both' if sets else 'neither'} a column 'label' "
            f"{'and' if sets else 'nor'} columns '{LABEL_SET}NAME'; allowed: one of the two",
            remedy=_SEE_DOCS,
        )
    if sets:
        return _numbers(path, nodes, sets), len(sets)
    return _classes(path, nodes["label"])


def _classes(path: Path, column: pd.Series) -> tuple[IntArray, int]:
    """Whole numbers are classes as they stand; texts are numbered in their order."""
    texts = column.astype(str)
    empty = (texts == "").to_numpy()
    if empty.all():
        raise DataError(f"{path}: label is empty on every line", remedy="give the nodes labels")
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(values[~empty]).all() and (values[~empty] % 1 == 0).all():
        labels = np.where(empty, UNLABELLED, np.where(empty, 0, values)).astype(np.int64)
        return labels, int(labels.max()) + 1
    names = sorted(set(texts[~empty]))
    return np.asarray(pd.Index(names).get_indexer(pd.Index(texts)), dtype=np.int64), len(names)


def _features(path: Path, nodes: pd.DataFrame) -> FloatArray:
    """Every other column, in the order of the file."""
    names = [
        name
        for name in nodes.columns
        if name not in ("id", "split", "label") and not str(name).startswith(LABEL_SET)
    ]
    if not names:
        raise DataError(
            f"{path} has no feature column; it has: {', '.join(map(str, nodes.columns))}",
            remedy="add a column of numbers; a node's degree will do",
        )
    return _numbers(path, nodes, names)


def _numbers(path: Path, nodes: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float32]:
    values = np.empty((len(nodes), len(names)), dtype=np.float32)
    for position, name in enumerate(names):
        numbers = pd.to_numeric(nodes[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
        if bad.any():
            raise DataError(
                f"{_cell(path, nodes[name], bad)} is not allowed; allowed: a finite number",
                remedy="fill in missing numbers; take texts out or encode them",
            )
        values[:, position] = numbers
    return values
