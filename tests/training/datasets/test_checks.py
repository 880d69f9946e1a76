from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.graph import Graph
from rudder.training.errors import DataError

N = 6


def mask(*nodes: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    result = np.zeros(N, dtype=np.bool_)
    result[list(nodes)] = True
    return result


def changed(array: Any, index: Any, value: Any) -> Any:
    copy = array.copy()
    copy[index] = value
    return copy


GOOD = Graph(
    name="six",
    src=np.array([0, 1, 2, 3], dtype=np.int64),
    dst=np.array([1, 2, 3, 5], dtype=np.int64),
    features=np.ones((N, 2), dtype=np.float32),
    labels=np.array([0, 1, 2, 0, 1, -1], dtype=np.int64),
    train_mask=mask(0, 1),
    val_mask=mask(2),
    test_mask=mask(3, 4),
    num_classes=3,
)
MULTILABEL = replace(GOOD, labels=np.eye(N, 3, dtype=np.float32), multilabel=True, val_mask=mask())


@pytest.mark.parametrize(
    "graph",
    [
        GOOD,
        MULTILABEL,
        replace(GOOD, features=GOOD.features.astype(np.float16)),
        replace(GOOD, seed_phase=np.arange(N, dtype=np.int64)),
    ],
)
def test_a_good_graph_passes_as_it_is(graph: Graph) -> None:
    assert check_graph(graph) is graph


@pytest.mark.parametrize(
    ("graph", "names"),
    [
        (replace(GOOD, src=changed(GOOD.src, 2, 6)), ["src[2] = 6", "0 to 5"]),
        (replace(GOOD, dst=changed(GOOD.dst, 1, -3)), ["dst[1] = -3", "0 to 5"]),
        (replace(GOOD, src=GOOD.src.astype(np.int32)), ["src of dtype int32", "int64"]),
        (replace(GOOD, dst=GOOD.dst[:3]), ["dst", "shape [3]", "shape [4]"]),
        (replace(GOOD, src=GOOD.src[:0], dst=GOOD.dst[:0]), ["0 edges"]),
        (
            replace(GOOD, features=changed(GOOD.features, (4, 1), np.nan)),
            ["features[4, 1] = nan", "finite"],
        ),
        (replace(GOOD, features=changed(GOOD.features, (0, 0), np.inf)), ["features[0, 0] = inf"]),
        (replace(GOOD, features=np.ones(N, dtype=np.float32)), ["features", "shape [6]"]),
        (replace(GOOD, features=np.ones((N, 0), dtype=np.float32)), ["features", "shape [6, 0]"]),
        (
            replace(GOOD, features=np.ones((N, 2), dtype=np.int64)),
            ["features of dtype int64"],
        ),
        (replace(GOOD, labels=changed(GOOD.labels, 1, 3)), ["labels[1] = 3", "0 to 2"]),
        (replace(GOOD, labels=changed(GOOD.labels, 4, -1)), ["labels[4] = -1", "in no split"]),
        (replace(GOOD, labels=changed(GOOD.labels, 5, -2)), ["labels[5] = -2"]),
        (replace(GOOD, labels=GOOD.labels[:5]), ["labels", "shape [5]"]),
        (replace(GOOD, train_mask=mask(0, 1, 3)), ["node 3", "train_mask and test_mask"]),
        (replace(GOOD, val_mask=mask(0)), ["node 0", "train_mask and val_mask"]),
        (replace(GOOD, train_mask=mask()), ["an empty train_mask"]),
        (replace(GOOD, test_mask=mask()), ["an empty test_mask"]),
        (replace(GOOD, val_mask=GOOD.val_mask[:4]), ["val_mask", "shape [4]"]),
        (replace(MULTILABEL, labels=GOOD.labels), ["labels of dtype int64", "float32"]),
        (
            replace(MULTILABEL, labels=changed(MULTILABEL.labels, (2, 1), 0.5)),
            ["labels[2, 1] = 0.5", "0 and 1"],
        ),
        (replace(MULTILABEL, num_classes=4), ["shape [6, 3]", "shape [6, 4]"]),
        (replace(GOOD, weight=np.ones(3, dtype=np.float32)), ["weight", "shape [3]", "shape [4]"]),
        (
            replace(GOOD, weight=np.array([1, 0, -2, 3], dtype=np.float32)),
            ["weight[2] = -2.0", "finite numbers from 0"],
        ),
        (replace(GOOD, seed_phase=np.full(N, -1, dtype=np.int64)), ["seed_phase[0] = -1"]),
    ],
)
def test_a_bad_graph_is_refused_with_the_entry_and_what_is_allowed(
    graph: Graph, names: list[str]
) -> None:
    with pytest.raises(DataError) as refused:
        check_graph(graph)
    for name in ["six", *names]:
        assert name in refused.value.message
    assert refused.value.remedy


def test_the_first_bad_feature_is_found_beyond_the_first_rows() -> None:
    features = np.zeros((200_000, 1), dtype=np.float32)
    features[150_000] = np.nan
    large = np.zeros(200_000, dtype=np.bool_)
    with pytest.raises(DataError, match=r"features\[150000, 0\] = nan"):
        check_graph(
            replace(
                GOOD,
                features=features,
                labels=np.zeros(200_000, dtype=np.int64),
                train_mask=large,
                val_mask=large,
                test_mask=large,
            )
        )


def test_reverse_edges_are_added_once() -> None:
    graph = replace(
        GOOD,
        src=np.array([0, 1, 2, 2], dtype=np.int64),
        dst=np.array([1, 0, 3, 2], dtype=np.int64),
    ).with_reverse_edges()
    edges = sorted(zip(graph.src.tolist(), graph.dst.tolist(), strict=True))
    assert edges == [(0, 1), (1, 0), (2, 2), (2, 3), (3, 2)]
