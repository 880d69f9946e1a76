from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import pytest
import torch

from rudder.training.errors import ConfigError, DataError
from rudder.training.partition.described import describe
from rudder.training.partition.tensor_file import tensors_of
from rudder.training.partitioned_graph import PartitionedGraph, TensorChoice

SIZES = (6, 4)
EDGES = (9, 5)
Tensors = dict[str, Any]
Write = Callable[..., Path]


def node_tensors(num_nodes: int) -> Tensors:
    ids = torch.arange(num_nodes)
    return {
        "feat": torch.randn(num_nodes, 3),
        "label": ids % 3,
        "train_mask": ids % 2 == 0,
        "val_mask": ids == 1,
        "test_mask": ids == 3,
    }


def layout(**changes: Any) -> Tensors:
    """The JSON of the chunked pipeline, as GraphStorm's launcher leaves it."""
    ends = (0, SIZES[0], sum(SIZES)), (0, EDGES[0], sum(EDGES))
    ranges = [[[first, last] for first, last in pairwise(e)] for e in ends]
    return {
        "edge_map": {"user:follows:user": ranges[1]},
        "etypes": {"user:follows:user": 0},
        "graph_name": "social",
        "halo_hops": 1,
        "node_map": {"user": ranges[0]},
        "ntypes": {"user": 0},
        "num_edges": sum(EDGES),
        "num_nodes": sum(SIZES),
        "num_parts": 2,
        "part_method": "metis",
        **{
            f"part-{part}": {
                "node_feats": f"part{part}/node_feat.dgl",
                "edge_feats": f"part{part}/edge_feat.dgl",
                "part_graph": f"part{part}/graph.dgl",
            }
            for part in (0, 1)
        },
        **changes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the folder of two parts; `edit` changes the node tensors of each."""

    def write(edit: Callable[[Tensors], Tensors] = dict, **changes: Any) -> Path:
        for part, (num_nodes, num_edges) in enumerate(zip(SIZES, EDGES, strict=True)):
            folder = tmp_path / f"part{part}"
            folder.mkdir(exist_ok=True)
            nodes = edit(node_tensors(num_nodes))
            edges = {"weight": torch.ones(num_edges), "kind": torch.ones(num_edges).long()}
            save(folder / "node_feat.dgl", {f"user/{k}": v for k, v in nodes.items()})
            save(folder / "edge_feat.dgl", {f"user:follows:user/{k}": v for k, v in edges.items()})
            (folder / "graph.dgl").write_bytes(bytes(10))
        (tmp_path / "metadata.json").write_text(json.dumps(layout(**changes)))
        (tmp_path / "node_label_stats.json").write_text("{}")
        return tmp_path

    return write


def save(path: Path, tensors: Tensors) -> None:
    dgl.data.utils.save_tensors(str(path), tensors)


def described(data: Path, told: list[str] | None = None, /, **names: Any) -> PartitionedGraph:
    say = (told if told is not None else []).append
    return describe(data, TensorChoice(**names), progress=say)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8", "int8"])
def test_tensor_files_are_seen_as_dgl_sees_them(tmp_path: Path, dtype: str) -> None:
    tensor = (torch.randn(7, 2, 3) * 50).abs().to(getattr(torch, dtype))
    save(tmp_path / "x.dgl", {"_N/a": tensor, "b": torch.arange(3)})
    found = tensors_of(tmp_path / "x.dgl")
    assert list(found) == ["_N/a", "b"]
    assert found["_N/a"].dtype == dtype
    np.testing.assert_array_equal(found["_N/a"], tensor.numpy())


@pytest.mark.parametrize("length", [0, 3, 30, 70, -1])
def test_a_cut_off_tensor_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.dgl"
    save(path, {"a": torch.arange(30)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"x\.dgl is not a readable file of tensors"):
        tensors_of(path)


def test_any_damaged_byte_of_a_tensor_file_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "x.dgl"
    save(path, {"_N/a": torch.arange(6).view(3, 2)})
    whole = path.read_bytes()
    num_refused = 0
    for at in range(len(whole)):
        for value in (0, 7, 127, 255):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                sums = [tensor.sum() for tensor in tensors_of(path).values()]
            except DataError:
                num_refused += 1
            else:
                assert len(sums) == 1
    assert num_refused > 100


def test_partitions_of_others_are_described(write: Write) -> None:
    folder = write()
    told: list[str] = []
    graph = described(folder, told)
    assert graph == described(folder / "metadata.json")
    assert (graph.dataset, graph.graph_name) == ("social", "social")
    assert [part.num_nodes for part in graph.parts] == list(SIZES)
    assert [part.num_edges for part in graph.parts] == list(EDGES)
    assert [part.num_halo for part in graph.parts] == [None, None]
    files = [path.stat().st_size for path in folder.glob("part*/*.dgl")]
    assert sum(part.num_bytes for part in graph.parts) == sum(files)
    assert [feature.name for feature in graph.features] == ["feat"]
    assert (graph.feature_dim, graph.row_bytes) == (3, 12)
    masks = (graph.train_mask, graph.val_mask, graph.test_mask)
    assert (graph.label.name, *masks) == ("label", "train_mask", "val_mask", "test_mask")
    assert (graph.num_classes, graph.multilabel, graph.num_train) == (3, False, 5)
    assert told == []


def test_several_features_are_side_by_side(write: Write) -> None:
    def edit(tensors: Tensors) -> Tensors:
        return {**tensors, "emb": torch.zeros(len(tensors["label"]), 2, 2).half()}

    with pytest.raises(ConfigError, match=r"several node tensors may be the feature") as refused:
        described(write(edit))
    assert "--feature emb,feat" in refused.value.remedy
    graph = described(write(edit), feature=("emb", "feat"))
    assert (graph.feature_dim, graph.row_bytes) == (4 + 3, 4 * 2 + 3 * 4)


def renamed(**names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {names.get(name, name): value for name, value in tensors.items()}


def test_other_names_are_given_or_guessed(write: Write) -> None:
    edit = renamed(label="section", feat="h", train_mask="is_train", val_mask="validation")
    graph = described(write(edit))
    assert (graph.label.name, graph.features[0].name) == ("section", "h")
    assert (graph.train_mask, graph.val_mask) == ("is_train", "validation")
    graph = described(write(edit), val_mask="test_mask", test_mask="validation")
    assert (graph.val_mask, graph.test_mask) == ("test_mask", "validation")


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: v for k, v in tensors.items() if k not in names}


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


@pytest.mark.parametrize("option", ["feature", "label", "train_mask", "test_mask"])
def test_what_is_missing_is_named_with_its_option(write: Write, option: str) -> None:
    name = {"feature": "feat"}.get(option, option)
    flag = option.replace("_", "-")
    with pytest.raises(ConfigError, match=f"no node tensor looks like the {flag}; it has") as no:
        described(write(without(name)))
    assert f"--{flag}" in no.value.remedy
    wrong = ("nothing",) if option == "feature" else "nothing"
    with pytest.raises(ConfigError, match=rf"{option} = 'nothing' .* label \(int64 \[n\]\)"):
        described(write(), **{option: wrong})


def test_a_validation_mask_may_be_missing(write: Write) -> None:
    assert described(write(without("val_mask"))).val_mask is None


@pytest.mark.parametrize(
    ("change", "num_classes", "multilabel"),
    [
        (lambda labels: labels.float(), 3, False),
        (lambda labels: labels.view(-1, 1), 3, False),
        (lambda labels: labels.int().view(-1, 1).double(), 3, False),
        (lambda labels: torch.eye(4)[labels], 4, True),
        (lambda labels: torch.eye(4)[labels].to(torch.uint8), 4, True),
        (lambda labels: torch.where(torch.arange(len(labels)) == 5, -1, labels), 3, False),
    ],
)
def test_labels_of_other_shapes_and_types_are_taken(
    write: Write, change: Any, num_classes: int, multilabel: bool
) -> None:
    graph = described(write(changed("label", change)))
    assert (graph.num_classes, graph.multilabel) == (num_classes, multilabel)


@pytest.mark.parametrize(
    ("change", "width"),
    [
        (lambda x: x + 0.5, 1),
        (lambda x: x - 7, 1),
        (lambda x: torch.stack([x, x + 0.5], 1), 2),
    ],
)
def test_labels_of_a_regression_are_any_numbers(write: Write, change: Any, width: int) -> None:
    graph = described(write(changed("label", change)), is_regression=True)
    assert (graph.label.width, graph.multilabel) == (width, False)


def test_a_regression_needs_a_number_for_each_node_in_a_split(write: Write) -> None:
    folder = write(changed("label", lambda x: x / (x > 0)))
    with pytest.raises(DataError, match="2 nodes in a split without; allowed: numbers"):
        described(folder, is_regression=True)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("label", lambda x: x - 1, "labels label with -1 to 1 among nodes in a split"),
        ("label", lambda x: x + 0.5, "labels label with fractions"),
        ("label", lambda x: x / (x > 0), "labels label with 2 nodes in a split without"),
        ("label", lambda x: torch.stack([x, x], 1), "numbers other than 0 and 1"),
        ("train_mask", lambda x: x.float(), r"train_mask of type float32"),
        ("train_mask", lambda x: x.byte() * 2, r"train_mask of type uint8 .* allowed: one 0 or 1"),
        ("train_mask", lambda x: x.view(-1, 1), r"train_mask of type uint8 and shape \[6, 1\]"),
        ("train_mask", lambda x: x & False, "train_mask has no node in it"),
        ("feat", lambda x: x[1:], r"feat has shape \[5, 3\]; the part has 6 rows"),
    ],
)
def test_what_cannot_be_used_is_named(write: Write, name: str, change: Any, says: str) -> None:
    names = {} if name == "feat" else {name: name}
    with pytest.raises(DataError, match=says):
        described(write(changed(name, change)), **names)


def test_parts_that_differ_are_named(write: Write) -> None:
    folder = write()
    save(folder / "part1" / "node_feat.dgl", {**node_tensors(4), "feat": torch.zeros(4, 2)})
    with pytest.raises(
        DataError, match=r"part 0 has feat \(float32 \[n, 3\]\), part 1 has feat \(.*, 2\]\)"
    ):
        described(folder)


def test_a_missing_file_names_its_host(write: Write) -> None:
    folder = write()
    (folder / "part1" / "graph.dgl").unlink()
    with pytest.raises(DataError, match=r"part1/graph\.dgl \(partition of host1\)"):
        described(folder)
    (folder / "part1" / "node_feat.dgl").unlink()
    with pytest.raises(DataError, match=r"part1/node_feat\.dgl .* No such file"):
        described(folder)


def test_training_nodes_in_another_split_are_told_of(write: Write) -> None:
    told: list[str] = []
    described(write(changed("test_mask", lambda mask: mask | True)), told)
    (line,) = told
    assert line.startswith("5 training nodes are also validated or tested on")


def test_edge_weights_are_checked(write: Write) -> None:
    folder = write()
    described(folder, edge_weight="weight")
    with pytest.raises(DataError, match=r"edge weight kind .* is not one float per edge"):
        described(folder, edge_weight="kind")
    with pytest.raises(ConfigError, match=r"edge_weight = 'w' .* weight "):
        described(folder, edge_weight="w")
    save(folder / "part1" / "edge_feat.dgl", {
        "weight": torch.tensor([1.0, 0, -1, 2, 3]), "kind": torch.ones(5).long()
    })  # fmt: skip
    with pytest.raises(DataError, match=r"part 1 has edge weights weight that are negative"):
        described(folder, edge_weight="weight")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_parts": 3}, "it has 3 parts but no part-2"),
        ({"num_parts": None}, "it has no num_parts"),
        ({"num_nodes": 11}, "its node_map does not divide 0 to 11 among 2"),
        ({"edge_map": {"a:b:c": [[0, 9], [8, 14]]}}, "its edge_map does not divide"),
        ({"graph_name": 7}, "graph_name: "),
        ({"ntypes": {"user": 0, "item": 1}}, r"node types \['user', 'item'\]"),
        ({"etypes": {"a:b:a": 0, "a:c:a": 1}}, "does not know heterogeneous graphs"),
        ({"etypes": {"follows": 0}}, "DGL 2.1 reads SOURCE:EDGE:TARGET"),
        ({"node_map": "node_map.npy"}, "keeps its node map in a file"),
        (
            {"part-0": {"node_feats": "a", "edge_feats": "b", "part_graph_graphbolt": "c"}},
            "has GraphBolt's form of each part only",
        ),
    ],
)
def test_a_json_that_cannot_be_used_says_why(write: Write, changes: Tensors, says: str) -> None:
    with pytest.raises(DataError, match=says) as refused:
        described(write(**changes))
    assert refused.value.remedy


ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**15, 1e308, "x", "", [], [1], {}, {"a": 1}),
    *({"a": [[0, 1]]}, [[0, 6], [6, 10]]),
)


@pytest.mark.parametrize("key", layout())
def test_any_odd_value_in_a_json_is_refused_or_taken(write: Write, key: str) -> None:
    folder = write()
    for odd in ODD:
        (folder / "metadata.json").write_text(json.dumps(layout(**{key: odd})))
        try:
            graph = described(folder / "metadata.json")
        except (DataError, ConfigError) as error:
            remedy = error.remedy
            assert remedy
        else:
            assert graph.num_parts == 2


def test_a_folder_without_partitions_or_with_several_is_refused(
    write: Write, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"there is no .*nowhere"):
        described(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no partitioned graph") as refused:
        described(tmp_path)
    assert "rudder prepare" in refused.value.remedy
    folder = write()
    (folder / "other.json").write_text((folder / "metadata.json").read_text())
    with pytest.raises(DataError, match=r"several partitioned graphs: metadata\.json, other\.json"):
        described(folder)
    (folder / "metadata.json").write_text("{")
    with pytest.raises(DataError, match=r"metadata\.json cannot be used"):
        described(folder / "metadata.json")
