from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.csv_files import load_csv
from rudder.training.datasets.graph import Graph
from rudder.training.errors import DataError
from rudder.training.progress import Counted

NODES = """\
id,label,split,age,posts
alice,news,train,31,4
bob,sports,test,45,0.5
NA,,,28,12
dave,news,valid,1e3,-1
"""
EDGES = """\
src,dst
alice,bob
bob,NA
NA,alice
dave,NA
"""


def loaded(folder: Path, nodes: str = NODES, edges: str = EDGES) -> Graph:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text(edges)
    return load_csv(folder)


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


def test_it_is_told_how_much_of_a_file_is_read(tmp_path: Path) -> None:
    loaded(tmp_path)
    long = EDGES + "alice,bob\n" * 300_000
    (tmp_path / "edges.csv").write_text(long)
    counts: list[Counted] = []
    assert load_csv(tmp_path, count=counts.append).num_edges == 300_004
    of_edges = [each.done for each in counts if each.what == "reading edges.csv"]
    assert of_edges == sorted(of_edges)
    assert of_edges[-1] == counts[-1].total == len(long) >> 20 > 0


def test_edges_may_have_weights(tmp_path: Path) -> None:
    graph = check_graph(loaded(tmp_path, edges="src,dst,weight\nalice,bob,0.5\nbob,dave,0\n"))
    assert graph.weight is not None
    assert graph.weight.tolist() == [0.5, 0]


def test_whole_numbers_are_classes_and_ids_as_they_stand(tmp_path: Path) -> None:
    nodes = "id,f,split,label\n10,1,train,4\n20,2,test,0\n30,3,,\n"
    graph = check_graph(loaded(tmp_path, nodes, "src,dst\n30,10\n20,10\n"))
    assert graph.labels.tolist() == [4, 0, -1]
    assert graph.num_classes == 5
    assert graph.src.tolist() == [2, 1]


def test_ids_and_labels_are_the_texts_that_the_file_has(tmp_path: Path) -> None:
    nodes = "id,f,split,label\n007,1,train,1\n7,2,test,01\nx,3,,1\n"
    graph = loaded(tmp_path, nodes, "src,dst\n7,x\n007,7\n")
    assert graph.src.tolist() == [1, 0]
    assert graph.dst.tolist() == [2, 1]
    assert graph.labels.tolist() == [1, 0, 1]
    assert graph.num_classes == 2


def test_quotes_empty_lines_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    nodes = '\ufeffid, f,split,label\r\n"a,b",1,train,0\r\n\r\n"c\nd",2,test,1\r\n'
    edges = 'src,dst\n"c\nd","a,b"\n\n"a,b",e\n'
    with pytest.raises(DataError, match=r"edges.csv line 5: dst = 'e'"):
        loaded(tmp_path, nodes, edges)
    graph = loaded(tmp_path, nodes, edges.replace(",e", ',"a,b"'))
    assert graph.src.tolist() == [1, 0]
    assert graph.features.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([str(1_600_000_000 + k) for k in range(400)], "400 values become 4 as float32"),
        ([str(2**60 + k) for k in range(400)], "400 values become 1 as float32"),
        ([str(2**70 + k) for k in range(400)], "400 values become 1 as float32"),
        ([f"{2**60 + k}.0" for k in range(400)], "400 values become 1 as float32"),
        ([f"{1e9 + k / 1000:.3f}" for k in range(400)], "400 values become 1 as float32"),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_counted(
    values: list[str], says: str, tmp_path: Path
) -> None:
    lines = [f"{k},0,train,{value}" for k, value in enumerate(values)]
    with pytest.raises(DataError, match=rf"nodes.csv: column 'time': {says}") as refused:
        loaded(tmp_path, "\n".join(["id,label,split,time", *lines]), "src,dst\n0,1\n")
    assert "subtract the smallest" in refused.value.remedy


def test_numbers_that_are_only_rounded_are_taken(tmp_path: Path) -> None:
    random = np.random.default_rng(0).standard_normal(5000).tolist()
    lines = [f"{k},0,train,{value!r},{k * 2**40}" for k, value in enumerate(random)]
    nodes = "\n".join(["id,label,split,noise,count", *lines])
    graph = loaded(tmp_path, nodes, "src,dst\n0,1\n")
    np.testing.assert_array_equal(graph.features[:, 0], np.array(random, dtype=np.float32))


def test_several_label_columns_are_sets_of_classes(tmp_path: Path) -> None:
    nodes = "id,label:a,label:b,split,f\n1,1,0,train,5\n2,1,1,test,6\n"
    graph = check_graph(loaded(tmp_path, nodes, "src,dst\n1,2\n"))
    assert graph.multilabel
    assert graph.labels.tolist() == [[1, 0], [1, 1]]
    assert graph.features.tolist() == [[5], [6]]


@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        (NODES, EDGES.replace("dave", "eve"), r"edges.csv line 5: src = 'eve'"),
        (NODES, EDGES.replace("src", "from"), "no column 'src'; it has: from, dst"),
        (NODES, EDGES.replace("\n", ",1\n"), "has a column '1'"),
        (
            NODES,
            EDGES.replace("bob,NA", "bob,NA,7"),
            r"edges.csv line 3 has 3 cells \('bob,NA,7'\)",
        ),
        (NODES, "src,dst\na,b,7\na,b,7\n", "edges.csv line 2 has 3 cells"),
        (NODES.replace(",12", ""), EDGES, r"nodes.csv line 4 has 4 cells .*the header has 5"),
        (NODES.replace("posts", ""), EDGES, "nodes.csv: column 5 has no name"),
        (NODES, EDGES.replace("src", " "), "edges.csv: column 1 has no name"),
        (NODES.replace("posts", "age"), EDGES, "nodes.csv has two columns 'age'"),
        (NODES.replace("NA,", " ,"), EDGES, "nodes.csv line 4: id = ''"),
        (NODES, EDGES.replace("dave", "007"), "edges.csv line 5: src = '007'"),
        (NODES.replace("dave", "bob"), EDGES, "nodes.csv line 5: id = 'bob'"),
        (NODES.replace("valid", "maybe"), EDGES, "nodes.csv line 5: split = 'maybe'"),
        (NODES.replace("1e3", "old"), EDGES, "nodes.csv line 5: age = 'old'"),
        (NODES.replace("1e3", ""), EDGES, "nodes.csv line 5: age = ''"),
        (NODES.replace("1e3", "nan"), EDGES, "nodes.csv line 5: age = 'nan'"),
        (NODES.replace("1e3", "1e300"), EDGES, "nodes.csv line 5: age = '1e300'"),
        (NODES.replace("label", "class"), EDGES, "neither a column 'label'"),
        (NODES.replace("posts", "label:a"), EDGES, "both a column 'label'"),
        ("id,label,split\na,0,train\n", "src,dst\na,a\n", "no feature column"),
        ("id,label,split,f\na,,train,1\n", "src,dst\na,a\n", "label is empty"),
        (NODES, EDGES.replace("dave", "e" * 200_000), "line 5: src = 'e{99} ... e{99}'"),
        (NODES, EDGES.replace("bob", "b,b" * 100_000), "line 2 has 100002 cells .'alice,b,bb"),
        ("", EDGES, "not a readable CSV"),
        (NODES, 'src,dst\n"a,b\n', "not a readable CSV"),
    ],
)
def test_a_bad_cell_is_refused_with_file_line_and_column(
    tmp_path: Path, nodes: str, edges: str, says: str
) -> None:
    with pytest.raises(DataError, match=says) as refused:
        loaded(tmp_path, nodes, edges)
    assert refused.value.remedy


def test_a_training_node_without_a_label_is_refused_by_the_check(tmp_path: Path) -> None:
    graph = loaded(tmp_path, NODES.replace("alice,news", "alice,"))
    with pytest.raises(DataError, match=r"labels\[0\] = -1"):
        check_graph(graph)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    with pytest.raises(DataError, match=r"there is no file .*edges\.csv"):
        load_csv(tmp_path)
