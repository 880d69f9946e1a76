"""Checks whether a graph can be trained on, and says why not."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from rudder.training.datasets.graph import UNLABELLED, BoolArray, FeatureArray, Graph
from rudder.training.errors import DataError

_ROWS_AT_ONCE = 65536
_SAMPLED_ROWS = 4096
_MERGED_FRACTION = 0.01
"""Of sampled fractions that may fall on the same stored value; rounding merges far fewer."""


def check_graph(graph: Graph) -> Graph:
    """Give the graph back if everything `Graph` promises is true of it.

    Raises DataError that names the array, the first bad entry, what is allowed and the remedy.
    """
    _check_features(graph)
    _check_edges(graph)
    _check_weights(graph)
    for name, mask in graph.masks.items():
        _check_array(graph, name, mask, dtype=np.bool_, shape=(graph.num_nodes,))
    _check_splits(graph)
    if graph.multilabel:
        _check_label_sets(graph)
    elif graph.labels.dtype == np.float32:
        _check_label_numbers(graph)
    else:
        _check_labels(graph)
    _check_seed_phase(graph)
    return graph


def _refuse(graph: Graph, what: str, *, allowed: str, remedy: str) -> NoReturn:
    raise DataError(f"{graph.name}: {what} is not allowed; allowed: {allowed}", remedy=remedy)


def _check_array(
    graph: Graph, name: str, array: npt.NDArray[Any], *, dtype: type, shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype or array.shape != shape:
        _refuse(
            graph,
            f"{name} of dtype {array.dtype} and shape {list(array.shape)}",
            allowed=f"dtype {np.dtype(dtype)} and shape {list(shape)}",
            remedy=f"give {name} that dtype and one entry per node or edge",
        )


def _first(bad: BoolArray) -> int:
    return int(np.flatnonzero(bad)[0])


def _check_features(graph: Graph) -> None:
    features = graph.features
    if features.ndim != 2 or 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        _refuse(
            graph,
            f"features of dtype {features.dtype} and shape {list(features.shape)}",
            allowed="a float dtype and shape [nodes, features], neither of them 0",
            remedy="give features one row of numbers per node",
        )
    for first in range(0, len(features), _ROWS_AT_ONCE):
        _check_finite(graph, features[first : first + _ROWS_AT_ONCE], first_row=first)


def _check_finite(graph: Graph, rows: FeatureArray, *, first_row: int) -> None:
    finite = np.isfinite(rows)
    if finite.all():
        return
    row, column = (int(axis[0]) for axis in np.nonzero(~finite))
    _refuse(
        graph,
        f"features[{first_row + row}, {column}] = {rows[row, column]}",
        allowed="finite numbers",
        remedy="fill in or drop missing and overflowing features before preparing the graph",
    )


def _check_edges(graph: Graph) -> None:
    if graph.num_edges == 0:
        _refuse(graph, "src of 0 edges", allowed="at least one edge", remedy="give the graph edges")
    for name, ids in (("src", graph.src), ("dst", graph.dst)):
        _check_array(graph, name, ids, dtype=np.int64, shape=(graph.num_edges,))
        if ids.min() >= 0 and ids.max() < graph.num_nodes:
            continue
        edge = _first((ids < 0) | (ids >= graph.num_nodes))
        _refuse(
            graph,
            f"{name}[{edge}] = {ids[edge]}",
            allowed=f"node ids 0 to {graph.num_nodes - 1} (features has {graph.num_nodes} rows)",
            remedy="number the nodes from 0 without gaps, in the order of the feature rows",
        )


def _check_weights(graph: Graph) -> None:
    if (weight := graph.weight) is None:
        return
    _check_array(graph, "weight", weight, dtype=np.float32, shape=(graph.num_edges,))
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        _refuse(
            graph,
            f"weight[{_first(bad)}] = {weight[_first(bad)]}",
            allowed="finite numbers from 0",
            remedy="mend the weights, or take these edges out",
        )


def check_told_apart(column: npt.NDArray[Any], dtype: np.dtype[Any], *, where: str) -> None:
    """Refuse a column of finite numbers of which `dtype`, a float type, makes fewer values.

    Whole numbers must all stay different. Of columns with fractions, which are rounded anyway, a
    sample is looked at, to find those whose differences are lost, such as seconds since 1970.
    """
    if not len(column) or column.dtype == dtype or column.dtype == np.bool_:
        return
    is_exact = max(float(column.max()), -float(column.min())) <= 2 ** (np.finfo(dtype).nmant + 1)
    if is_exact and dtype == np.float16:  # who asks for float16 wants fractions rounded
        return
    is_whole = column.dtype.kind in "iuO" or bool((column % 1 == 0).all())
    if (is_exact and is_whole) or (dtype == np.float16 and not is_whole):
        return
    seen = column if is_whole else column[:: -(-len(column) // _SAMPLED_ROWS)]
    num_values, num_kept = len(np.unique(seen)), len(np.unique(seen.astype(dtype)))
    if num_kept < num_values * (1 if is_whole else 1 - _MERGED_FRACTION):
        raise DataError(
            f"{where}: {num_values:,} values become {num_kept:,} as {dtype}",
            remedy="subtract the smallest value, take the logarithm, or split the number over two"
            " columns; leave it out if it is an id"
            + (" (or use --feature-dtype float32)" if dtype == np.float16 else ""),
        )


def _check_splits(graph: Graph) -> None:
    names = list(graph.masks)
    for position, name in enumerate(names):
        for other in names[position + 1 :]:
            both = graph.masks[name] & graph.masks[other]
            if both.any():
                _refuse(
                    graph,
                    f"node {_first(both)} (of {int(both.sum())}) in {name} and {other}",
                    allowed="each node in one split at most",
                    remedy=f"take these nodes out of {name} or {other}",
                )
    for name in ("train_mask", "test_mask"):
        if not graph.masks[name].any():
            _refuse(
                graph,
                f"an empty {name}",
                allowed="at least one node",
                remedy=f"choose nodes for {name}; only val_mask may be empty",
            )


def _check_labels(graph: Graph) -> None:
    labels = graph.labels
    _check_array(graph, "labels", labels, dtype=np.int64, shape=(graph.num_nodes,))
    in_a_split = graph.train_mask | graph.val_mask | graph.test_mask
    lowest = np.where(in_a_split, 0, UNLABELLED)
    bad = (labels < lowest) | (labels >= graph.num_classes)
    if bad.any():
        _refuse(
            graph,
            f"labels[{_first(bad)}] = {labels[_first(bad)]}",
            allowed=f"classes 0 to {graph.num_classes - 1}; -1 for a node in no split",
            remedy="number the classes from 0, or take nodes without a label out of the splits",
        )


def _check_label_numbers(graph: Graph) -> None:
    _check_array(graph, "labels", graph.labels, dtype=np.float32, shape=(graph.num_nodes,))
    bad = ~np.isfinite(graph.labels) & (graph.train_mask | graph.val_mask | graph.test_mask)
    if bad.any():
        _refuse(
            graph,
            f"labels[{_first(bad)}] = {graph.labels[_first(bad)]}",
            allowed="finite numbers; nothing (NaN) for a node in no split",
            remedy="take nodes without a number out of the splits",
        )


def _check_label_sets(graph: Graph) -> None:
    labels = graph.labels
    shape = (graph.num_nodes, graph.num_classes)
    _check_array(graph, "labels", labels, dtype=np.float32, shape=shape)
    bad = (labels != 0) & (labels != 1)
    if bad.any():
        row, column = (int(axis[0]) for axis in np.nonzero(bad))
        _refuse(
            graph,
            f"labels[{row}, {column}] = {labels[row, column]}",
            allowed="0 and 1",
            remedy="mark each class of a node with 1 and every other class with 0",
        )


def _check_seed_phase(graph: Graph) -> None:
    if graph.seed_phase is None:
        return
    _check_array(graph, "seed_phase", graph.seed_phase, dtype=np.int64, shape=(graph.num_nodes,))
    if graph.seed_phase.min() < 0:
        node = _first(graph.seed_phase < 0)
        _refuse(
            graph,
            f"seed_phase[{node}] = {graph.seed_phase[node]}",
            allowed="0 and up",
            remedy="number the phases from 0",
        )
