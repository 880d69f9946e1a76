from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.csv_files import load_csv
from rudder.training.datasets.graph import Graph
from rudder.training.datasets.parquet_files import load_parquet
from rudder.training.datasets.registry import DatasetSpec
from rudder.training.errors import DataError
from rudder.training.progress import Counted

Columns = dict[str, Any]
NODES: Columns = {
    "id": ["alice", "bob", "NA", "dave"],
    "label": ["news", "sports", None, "news"],
    "split": ["train", "test", None, "valid"],
    "age": [31, 45, 28, 1000],
    "posts": [4, 0.5, 12, -1],
}
EDGES: Columns = {"src": ["alice", "bob", "NA", "dave"], "dst": ["bob", "NA", "alice", "NA"]}


def loaded(folder: Path, nodes: Columns = NODES, edges: Columns = EDGES) -> Graph:
    for name, table in (("nodes", nodes), ("edges", edges)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return load_parquet(folder)


def test_tables_become_a_graph(tmp_path: Path) -> None:
    graph = check_graph(loaded(tmp_path))
    assert graph.src.tolist() == [0, 1, 2, 3]
    assert graph.dst.tolist() == [1, 2, 0, 2]
    assert graph.features.tolist() == [[31, 4], [45, 0.5], [28, 12], [1000, -1]]
    assert graph.features.dtype == "float32"
    assert graph.labels.tolist() == [0, 1, -1, 0]
    assert graph.num_classes == 2
    assert graph.train_mask.tolist() == [True, False, False, False]
    assert graph.val_mask.tolist() == [False, False, False, True]
    assert graph.test_mask.tolist() == [False, True, False, False]
    assert graph.weight is None


def test_files_as_spark_writes_them_are_one_table(tmp_path: Path) -> None:
    nodes, edges = tmp_path / "nodes.parquet", tmp_path / "edges"
    for folder, table, at_once in ((nodes, NODES, 3), (edges, EDGES, 1)):
        folder.mkdir()
        for first in range(0, 4, at_once):
            piece = pa.table(table).slice(first, at_once)
            pq.write_table(piece, folder / f"part-{first:05}-8d3f-c000.snappy.parquet")
        (folder / "_SUCCESS").touch()
        (folder / "._SUCCESS.crc").touch()
    counts: list[Counted] = []
    graph = load_parquet(tmp_path, count=counts.append)
    assert [(c.done, c.total) for c in counts if c.what == "reading src of edges"] == [
        (1, 4), (2, 4), (3, 4), (4, 4),
    ]  # fmt: skip
    other = tmp_path / "one"
    other.mkdir()
    one_file = loaded(other)
    for name in ("src", "dst", "features", "labels", "train_mask", "val_mask", "test_mask"):
        np.testing.assert_array_equal(getattr(graph, name), getattr(one_file, name))
    spec = DatasetSpec.parse(f"parquet:{tmp_path}")
    assert len(spec.files) == 2 + 4
    assert "part-00003" in spec.fingerprint()


def test_texts_stay_texts_and_numbers_numbers(tmp_path: Path) -> None:
    nodes = {**NODES, "id": ["007", "7", "x", " 7"]}
    graph = loaded(tmp_path, nodes, {"src": ["7", "007", " 7"], "dst": ["x", "7", "7"]})
    assert graph.src.tolist() == [1, 0, 3]
    large = 2**60
    nodes = {**NODES, "id": [large, large + 1, large + 2, -3]}
    edges = {"src": pa.array([large + 1, large]), "dst": pa.array([-3, large + 2], pa.int64())}
    graph = loaded(tmp_path, nodes, edges)
    assert (graph.src.tolist(), graph.dst.tolist()) == ([1, 0], [3, 2])
    small = {"src": pa.array([1, 2], pa.uint8()), "dst": pa.array([3, 0], pa.int32())}
    graph = loaded(tmp_path, {**NODES, "id": pa.array([0, 1, 2, 3], pa.uint64())}, small)
    assert (graph.src.tolist(), graph.dst.tolist()) == ([1, 2], [3, 0])


@pytest.mark.parametrize(
    ("labels", "expected", "num_classes"),
    [
        (pa.array([4, 0, None, 2], pa.int8()), [4, 0, -1, 2], 5),
        ([1.0, 0.0, float("nan"), 2.0], [1, 0, -1, 2], 3),
        ([True, False, None, True], [1, 0, -1, 1], 2),
        (["1", "10", None, "2"], [1, 10, -1, 2], 11),
        (["01", "1", None, "1"], [0, 1, -1, 1], 2),
        (pa.array(["b", "a", None, "b"]).dictionary_encode(), [1, 0, -1, 1], 2),
    ],
)
def test_labels_are_numbers_or_names(
    tmp_path: Path, labels: Any, expected: list[int], num_classes: int
) -> None:
    graph = check_graph(loaded(tmp_path, {**NODES, "label": labels}))
    assert graph.labels.tolist() == expected
    assert graph.num_classes == num_classes


def test_lists_are_vectors(tmp_path: Path) -> None:
    vectors: list[list[float]] = [[1.5, 2], [3, 4], [5, 6], [7, 8]]
    nodes = {
        **NODES,
        "fixed": pa.array(vectors, pa.list_(pa.float32(), 2)),
        "lists": pa.array(vectors, pa.large_list(pa.float64())),
        "label": [[1, 0], [0, 0], [1, 1], [0, 1]],
    }
    graph = check_graph(loaded(tmp_path, nodes))
    assert graph.multilabel
    assert graph.labels.tolist() == nodes["label"]
    assert graph.features.tolist() == [
        [age, posts, *vector, *vector]
        for age, posts, vector in zip(NODES["age"], NODES["posts"], vectors, strict=True)
    ]


def test_edges_may_have_weights(tmp_path: Path) -> None:
    graph = check_graph(loaded(tmp_path, edges={**EDGES, "weight": [1, 0, 2, 5]}))
    assert graph.weight is not None
    assert graph.weight.tolist() == [1, 0, 2, 5]
    assert graph.weight.dtype == "float32"


def with_nodes(**changes: Any) -> tuple[Columns, Columns]:
    return {**NODES, **changes}, EDGES


def with_edges(**changes: Any) -> tuple[Columns, Columns]:
    return NODES, {**EDGES, **changes}


def without(table: Columns, *names: str) -> Columns:
    return {name: cells for name, cells in table.items() if name not in names}


SEEN_BY_BOTH: list[tuple[tuple[Columns, Columns], str, str]] = [
    (with_nodes(id=["alice", "bob", "NA", "bob"]), r"id = 'bob' .* each id once", "row 4"),
    (with_nodes(id=["alice", "bob", None, "dave"]), r"id = (''|None) .* allowed: an id", "row 3"),
    (with_nodes(split=["train", "test", "x", ""]), r"split = 'x' .* train, val, test", "row 3"),
    (with_nodes(age=[1, None, 2, 3]), r"age = (''|None) .* a finite number", "row 2"),
    (with_nodes(age=[1, np.inf, 2, 3]), r"age = '?inf'? .* a finite number", "row 2"),
    (with_nodes(age=[1e300, 1, 2, 3.5]), r"age = '?1e\+300'? .* a finite number", "row 1"),
    (
        with_nodes(age=[2**24 + k for k in range(4)]),
        r"column 'age': 4 values become 3 as float32",
        "",
    ),
    (
        with_nodes(age=[2**60 + k for k in range(4)]),
        r"column 'age': 4 values become 1 as float32",
        "",
    ),
    (with_nodes(label=[None] * 3 + [""]), "label is empty", ""),
    ((without(NODES, "label"), EDGES), "neither a column 'label' nor", ""),
    (with_nodes(**{"label:a": [1, 0, 0, 1]}), "both a column 'label' and", ""),
    ((without(NODES, "age", "posts"), EDGES), "has no feature column", ""),
    ((without(NODES, "split"), EDGES), "has no column 'split'; it has: id, label", ""),
    ((NODES, without(EDGES, "dst")), "has no column 'dst'; it has: src", ""),
    (with_edges(dst=["bob", "NA", "zoe", "NA"]), r"dst = 'zoe' .* an id of .*nodes", "row 3"),
    (with_edges(kind=[1, 2, 3, 4]), "has a column 'kind'; allowed: src, dst, weight", ""),
    (with_edges(weight=[1, 2, None, 4]), r"weight = (''|None) .* a finite number", "row 3"),
    (with_edges(weight=[1, 2, -3, 4]), r"weight = '?-3(\.0)?'? .* allowed: 0 and up", "row 3"),
    (with_nodes(**{"": [1, 2, 3, 4]}), "column 6 has no name", ""),
]


def as_csv(folder: Path, nodes: Columns, edges: Columns) -> Graph:
    for name, table in (("nodes", nodes), ("edges", edges)):
        pd.DataFrame({key: pd.Series(cells, dtype=object) for key, cells in table.items()}).to_csv(
            folder / f"{name}.csv", index=False
        )
    return load_csv(folder)


@pytest.mark.parametrize("load", [as_csv, loaded])
@pytest.mark.parametrize(("tables", "says", "row"), SEEN_BY_BOTH)
def test_what_csv_refuses_parquet_refuses(
    tmp_path: Path,
    load: Callable[[Path, Columns, Columns], Graph],
    tables: tuple[Columns, Columns],
    says: str,
    row: str,
) -> None:
    with pytest.raises(DataError, match=says) as refused:
        load(tmp_path, *tables)
    place = row if load is loaded else row and f"line {int(row.split()[1]) + 1}"
    assert place in refused.value.message


DAY = datetime.date(2026, 1, 1)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (with_nodes(id=[1.0, 2, 3, 4]), "column 'id' has type double; allowed: texts or whole"),
        (with_nodes(id=[1, 2, 3, 4]), r"column 'src' has type string; allowed: int64, the type of"),
        (with_edges(dst=[1, 2, 3, 4]), r"column 'dst' has type int64; allowed: string, the type"),
        (with_nodes(split=[1, 2, 3, 4]), "column 'split' has type int64; allowed: texts"),
        (with_nodes(age=["1", "2", "3", "4"]), "column 'age' has type string; allowed: numbers"),
        (with_nodes(age=[DAY] * 4), "column 'age' has type date32"),
        (with_nodes(age=[decimal.Decimal(1)] * 4), "column 'age' has type decimal128"),
        (with_nodes(age=[[1], [1, 2], [1], None]), "'age' have 1, 2, no numbers; allowed: as many"),
        (with_nodes(age=[[1.0], [2.0], [None], [3.0]]), r"age = \[None\] .* a finite number"),
        (with_nodes(label=[float("inf"), 1, 2, 3]), "row 1: label = inf .* a number or nothing"),
        (
            with_nodes(label=[1e10, 1, 2, 3]),
            r"row 1: label = 10000000000\.0 .* a class number from 0",
        ),
        (with_nodes(__index_level_0__=[5, 6, 7, 8]), "in which pandas keeps its row names"),
        (
            with_nodes(id=pa.array([2**64 - 1, 1, 2, 3], pa.uint64())),
            "column 'id' has ids beyond int64",
        ),
        (
            with_nodes(age=[[1.0, float(2**60 + 4096 * k)] for k in range(4)]),
            "column 'age', number 1: 4 values become 1 as float32",
        ),
    ],
)
def test_types_that_lose_something_are_refused(
    tmp_path: Path, tables: tuple[Columns, Columns], says: str
) -> None:
    with pytest.raises(DataError, match=says) as refused:
        loaded(tmp_path, *tables)
    assert refused.value.remedy


def test_a_table_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no table of nodes"):
        load_parquet(tmp_path)
    loaded(tmp_path)
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    with pytest.raises(DataError, match="has two tables of nodes"):
        load_parquet(tmp_path)
    (tmp_path / "nodes.parquet").rename(nodes / "part-0.parquet")
    load_parquet(tmp_path)
    (nodes / "split=train").mkdir()
    with pytest.raises(DataError, match="has a folder split=train") as refused:
        load_parquet(tmp_path)
    assert "partitionBy" in refused.value.remedy
    (nodes / "split=train").rename(nodes / "_temporary")
    with pytest.raises(DataError, match=r"_temporary is there, so the job .* has not finished"):
        load_parquet(tmp_path)
    (nodes / "_temporary").rmdir()
    other = {**NODES, "age": [1.5, 2, 3, 4]}
    pq.write_table(pa.table(other), nodes / "part-1.parquet")
    with pytest.raises(DataError, match=r"other columns than part-0\.parquet: age: double, age: i"):
        load_parquet(tmp_path)
    (nodes / "part-1.parquet").write_bytes((nodes / "part-0.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"part-1\.parquet is not a readable Parquet file"):
        load_parquet(tmp_path)


@pytest.mark.parametrize("load", [as_csv, loaded])
def test_labels_with_fractions_are_numbers_to_predict(
    tmp_path: Path, load: Callable[[Path, Columns, Columns], Graph]
) -> None:
    graph = check_graph(load(tmp_path, *with_nodes(label=[0.5, 2, None, -7])))
    assert graph.labels.dtype == "float32"
    assert graph.labels.tolist()[:2] == [0.5, 2]
    assert np.isnan(graph.labels[2])
    assert (graph.num_classes, graph.multilabel) == (0, False)
    with pytest.raises(DataError, match=r"labels\[1\] = nan .* finite numbers"):
        check_graph(load(tmp_path, *with_nodes(label=[0.5, None, None, -7])))


def test_any_damaged_byte_is_refused_or_read(tmp_path: Path) -> None:
    loaded(tmp_path)
    whole = (tmp_path / "nodes.parquet").read_bytes()
    num_refused = 0
    for at in range(0, len(whole), 2):
        (tmp_path / "nodes.parquet").write_bytes(whole[:at] + b"\xce" + whole[at + 1 :])
        try:
            load_parquet(tmp_path)
        except DataError as error:
            remedy = error.remedy
            assert remedy
            num_refused += 1
    assert num_refused > 100
