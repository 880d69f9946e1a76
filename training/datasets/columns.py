"""Columns of a table of nodes or edges, from any kind of file, as arrays; or a refusal.

What one kind of file refuses, the others refuse: the loaders read cells, this module judges them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

from rudder.training.datasets.checks import check_told_apart
from rudder.training.datasets.graph import UNLABELLED, BoolArray, IntArray
from rudder.training.errors import DataError

ID, SPLIT, LABEL, WEIGHT = "id", "split", "label", "weight"
LABEL_SET = "label:"
"""Prefix of the columns of a multi-label table: one column of 0 and 1 per class."""
SEE_DOCS = "docs/datasets.md describes the format"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test", "": ""}
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.0*)?")


class Table(Protocol):
    """Rows of a file or a folder, which can say where a bad cell is."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def refuse(self, column: str, bad: BoolArray, *, allowed: str, remedy: str) -> NoReturn:
        """Raise DataError with the place of the first bad cell, and what the file has there."""


def check_names(table: Table, names: Sequence[str], *, required: Sequence[str]) -> None:
    """Refuse columns without a name, two of one name, and a table that lacks one."""
    if "" in names:
        raise DataError(
            f"{table.name}: column {names.index('') + 1} has no name",
            remedy="name it if it is a feature, else leave it out (pandas writes its row numbers"
            " as such a column unless you say index=False)",
        )
    if repeated := [name for k, name in enumerate(names) if name in names[:k]]:
        raise DataError(
            f"{table.name} has two columns {repeated[0]!r}",
            remedy="give each column a name of its own",
        )
    if missing := [name for name in required if name not in names]:
        raise DataError(
            f"{table.name} has no column {missing[0]!r}; it has: {', '.join(names)}",
            remedy=f"add the column {missing[0]}; {SEE_DOCS}",
        )


def check_edge_names(table: Table, names: Sequence[str]) -> None:
    """Refuse columns of edges that would be ignored."""
    if extra := sorted(set(names) - {"src", "dst", WEIGHT}):
        raise DataError(
            f"{table.name} has a column {extra[0]!r}; allowed: src, dst, weight",
            remedy="leave it out: edges have no types or features yet",
        )


def label_columns(table: Table, names: Sequence[str]) -> list[str]:
    """The columns `label:NAME`; none where there is a column `label`. Refuses both or neither."""
    sets = [name for name in names if name.startswith(LABEL_SET)]
    if bool(sets) == (LABEL in names):
        raise DataError(
            f"{table.name} has {'both' if sets else 'neither'} a column 'label' "
            f"{'and' if sets else 'nor'} columns '{LABEL_SET}NAME'; allowed: one of the two",
            remedy=SEE_DOCS,
        )
    return sets


def feature_columns(table: Table, names: Sequence[str]) -> list[str]:
    """Every other column, in the order of the table."""
    features = [
        name for name in names if name not in (ID, SPLIT, LABEL) and not name.startswith(LABEL_SET)
    ]
    if not features:
        raise DataError(
            f"{table.name} has no feature column; it has: {', '.join(names)}",
            remedy="add a column of numbers; a node's degree will do",
        )
    return features


def index_of(table: Table, ids: pd.Series, *, missing: BoolArray) -> pd.Index:
    """The ids, each once and none missing."""
    for bad, allowed in ((missing, "an id"), (ids.duplicated().to_numpy(), "each id once")):
        if bad.any():
            table.refuse(ID, bad, allowed=allowed, remedy="keep one row per node")
    return pd.Index(ids)


def check_ends(table: Table, column: str, found: IntArray, *, nodes: str) -> IntArray:
    """Row numbers of nodes for the ids of an edge column; refuses -1, an id that is no node's."""
    if (found < 0).any():
        table.refuse(
            column,
            found < 0,
            allowed=f"an id of {nodes}",
            remedy=f"add the node to {nodes}, as it is written here, or take the edge out",
        )
    return np.asarray(found, dtype=np.int64)


def splits(table: Table, column: pd.Series) -> npt.NDArray[np.str_]:
    """`train`, `val`, `test` or "" of each row."""
    unknown = (~column.isin(list(_SPLITS))).to_numpy()
    if unknown.any():
        table.refuse(
            SPLIT,
            unknown,
            allowed="train, val, test or nothing",
            remedy="use these words; leave the cell empty for a node in no split",
        )
    return np.asarray(column.map(_SPLITS).to_numpy(), dtype=np.str_)


LabelArray = IntArray | npt.NDArray[np.float32]


def labels_of_texts(table: Table, column: pd.Series) -> tuple[LabelArray, int]:
    """Labels, and how many classes: whole numbers as they stand, texts numbered in their order.

    Numbers of which some have fractions are to be predicted, and have no classes (0).
    """
    names = sorted(set(column) - {""})
    if not names:
        raise DataError(
            f"{table.name}: label is empty on every line", remedy="give the nodes labels"
        )
    if all(_WHOLE_NUMBER.fullmatch(name) for name in names):
        numbers = {name: int(name.partition(".")[0]) for name in names}
        labels = np.asarray(column.map(numbers | {"": UNLABELLED}).to_numpy(), dtype=np.int64)
        return labels, int(labels.max()) + 1
    values = pd.to_numeric(pd.Series(names), errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(values).all() and (values % 1 != 0).any():
        return labels_of_numbers(table, pd.to_numeric(column, errors="coerce").to_numpy())
    return np.asarray(pd.Index(names).get_indexer(pd.Index(column)), dtype=np.int64), len(names)


def labels_of_numbers(table: Table, exact: npt.NDArray[Any]) -> tuple[LabelArray, int]:
    """Class numbers, and how many; or numbers with fractions, to be predicted; NaN: no label."""
    absent = np.isnan(exact) if exact.dtype.kind == "f" else np.zeros(len(exact), dtype=np.bool_)
    if absent.all():
        raise DataError(f"{table.name}: label is empty in every row", remedy="give nodes labels")
    finite = absent | np.isfinite(exact)
    if not finite.all():
        table.refuse(
            LABEL, ~finite, allowed="a number or nothing", remedy="take these nodes' labels out"
        )
    if (exact[~absent] % 1 != 0).any():
        stored = np.full(len(exact), np.nan, dtype=np.float32)
        stored[~absent] = as_float32(table, LABEL, exact[~absent])
        return stored, 0
    bad = ~absent & (np.abs(np.nan_to_num(exact.astype(np.float64))) >= 2**31)
    if bad.any():
        table.refuse(
            LABEL,
            bad,
            allowed="a class number from 0",
            remedy="number the classes from 0, or write their names",
        )
    labels = np.where(absent, UNLABELLED, exact).astype(np.int64)
    return labels, int(labels.max()) + 1


def as_float32(table: Table, column: str, exact: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Numbers as they are stored; refuses what is not finite and what float32 cannot tell apart.

    exact: as the file has them, NaN where it has none; [n] or [n, width].
    """
    numbers = exact.astype(np.float64)
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
    if bad.any():
        table.refuse(
            column,
            bad if bad.ndim == 1 else bad.any(axis=1),
            allowed="a finite number",
            remedy="fill in missing numbers; take texts out or encode them",
        )
    stored = numbers.astype(np.float32)
    for place in range(exact.shape[1] if exact.ndim == 2 else 1):
        cells, name = (exact, repr(column)) if exact.ndim == 1 else (exact[:, place], "")
        where = f"{table.name}: column {name or f'{column!r}, number {place}'}"
        check_told_apart(cells, np.dtype(np.float32), where=where)
    return stored


def as_weights(table: Table, exact: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Edge weights; refuses negative ones, too."""
    weights = as_float32(table, WEIGHT, exact)
    if (weights < 0).any():
        table.refuse(
            WEIGHT, weights < 0, allowed="0 and up", remedy="mend the weight, or take the edge out"
        )
    return weights
