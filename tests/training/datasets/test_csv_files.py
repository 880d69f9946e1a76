from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.csv_files import load_csv
from rudder.training.datasets.graph import Graph
from rudder.training.errors import DataError

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


def test_whole_numbers_are_classes_and_ids_as_they_stand(tmp_path: Path) -> None:
    nodes = "id,f,split,label\n10,1,train,4\n20,2,test,0\n30,3,,\n"
    graph = check_graph(loaded(tmp_path, nodes, "src,dst\n30,10\n20,10\n"))
    assert graph.labels.tolist() == [4, 0, -1]
    assert graph.num_classes == 5
    assert graph.src.tolist() == [2, 1]


def test_ids_of_numbers_match_where_one_table_also_holds_texts(tmp_path: Path) -> None:
    nodes = "id,f,split,label\n10,1,train,0\nx,2,test,1\n"
    assert loaded(tmp_path, nodes, "src,dst\n10,10\n").src.tolist() == [0]


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
        (NODES.replace("dave", "bob"), EDGES, "nodes.csv line 5: id = 'bob'"),
        (NODES.replace("valid", "maybe"), EDGES, "nodes.csv line 5: split = 'maybe'"),
        (NODES.replace("1e3", "old"), EDGES, "nodes.csv line 5: age = 'old'"),
        (NODES.replace("1e3", ""), EDGES, "nodes.csv line 5: age = ''"),
        (NODES.replace("1e3", "nan"), EDGES, "nodes.csv line 5: age = 'nan'"),
        (NODES.replace("1e3", "1e300"), EDGES, "nodes.csv line 5: age"),
        (NODES.replace("label", "class"), EDGES, "neither a column 'label'"),
        (NODES.replace("posts", "label:a"), EDGES, "both a column 'label'"),
        ("id,label,split\na,0,train\n", "src,dst\na,a\n", "no feature column"),
        ("id,label,split,f\na,,train,1\n", "src,dst\na,a\n", "label is empty"),
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
