from __future__ import annotations

from pathlib import Path
from typing import Any

import dgl
import dgl.distributed
import numpy as np
import pytest
import torch

from rudder.training.errors import ConfigError, DataError
from rudder.training.manifest import CHECKSUMS_NAME
from rudder.training.partition.statistics import (
    PartitionStatistics,
    measure_partitions,
    write_checksums,
)
from rudder.training.partitioned_graph import TensorChoice
from tests.training.partition.test_metis import make_graph, recipe, write

pytestmark = pytest.mark.filterwarnings(
    # dgl.partition.get_peak_mem opens this file and leaves it to the garbage collector.
    "ignore:unclosed file .*/proc/self/status:ResourceWarning"
)
NUM_NODES = 90


@pytest.fixture
def graph() -> Any:
    """A graph with labels that no training node has, and numbers that are not finite."""
    torch.manual_seed(0)
    graph = dgl.rand_graph(NUM_NODES, 700)
    ids = torch.arange(NUM_NODES)
    feat = torch.randn(NUM_NODES, 4, 2) + 1000
    feat[3, 1, 0], feat[5, 0, 0], feat[:, 3, 1] = float("nan"), float("inf"), 7
    graph.ndata["feat"] = feat
    graph.ndata["label"] = torch.where(ids < 80, ids % 3, 4)
    graph.ndata["train_mask"] = ids < 40
    graph.ndata["val_mask"] = (ids >= 40) & (ids < 50)
    graph.ndata["test_mask"] = ids >= 60
    return graph


@pytest.fixture
def folder(graph: Any, tmp_path: Path) -> Path:
    dgl.distributed.partition_graph(graph, "g", 2, str(tmp_path))
    return tmp_path


def measured(folder: Path, **choice: Any) -> PartitionStatistics:
    return measure_partitions(folder, TensorChoice(**choice), progress=lambda text: None)


def test_all_of_a_graph_is_counted(graph: Any, folder: Path) -> None:
    found = measured(folder)
    assert (found.num_nodes, found.num_edges, found.problem) == (NUM_NODES, 700, None)
    assert sum(part.num_nodes for part in found.parts) == NUM_NODES
    assert sum(part.num_edges for part in found.parts) == 700
    for split in ("train", "val", "test"):
        counted = sum(getattr(part, f"num_{split}") for part in found.parts)
        assert counted == int(graph.ndata[f"{split}_mask"].sum())
    feat = graph.ndata["feat"].double().numpy()
    finite = feat[np.isfinite(feat)]
    (feature,) = found.features
    assert (feature.width, feature.num_not_finite, feature.num_constant) == (8, 2, 1)
    assert (feature.least, feature.greatest) == (7, finite.max())
    assert feature.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert feature.deviation == pytest.approx(finite.std(), rel=1e-9)
    used = graph.ndata["label"][graph.ndata["train_mask"] | graph.ndata["val_mask"]
                                | graph.ndata["test_mask"]]  # fmt: skip
    assert found.labels is not None
    assert found.labels.counts == tuple(np.bincount(used.numpy()).tolist())
    assert (found.labels.num_without, found.labels.num_untrained) == (10, 1)


def test_halo_and_cut_are_those_of_the_manifest(tmp_path: Path) -> None:
    manifest = write(make_graph(), tmp_path / "out", recipe(3))
    found = measured(tmp_path / "out")
    assert found.dataset == "synthetic:tiny"
    assert found.num_cut_edges == manifest.num_cut_edges > 0
    for part, sizes in zip(found.parts, manifest.parts, strict=True):
        assert part.num_halo == sizes.num_halo_nodes
        assert (part.num_nodes, part.num_edges) == (sizes.num_inner_nodes, sizes.num_edges)
        assert part.num_train == sizes.num_train
    assert found.num_checksums == len(manifest.files)
    with pytest.raises(ConfigError, match="write_checksums is not allowed"):
        write_checksums(tmp_path / "out")


def test_label_sets_are_counted(graph: Any, tmp_path: Path) -> None:
    sets = torch.eye(5)[graph.ndata["label"]]
    sets[:, 0] = 1
    graph.ndata["label"] = sets
    dgl.distributed.partition_graph(graph, "g", 2, str(tmp_path))
    labels = measured(tmp_path).labels
    assert labels is not None
    assert labels.multilabel
    assert labels.counts[0] == NUM_NODES - 10
    assert labels.num_untrained == 1


def test_numbers_to_predict_are_measured(graph: Any, tmp_path: Path) -> None:
    graph.ndata["label"] = graph.ndata["label"] / 2
    dgl.distributed.partition_graph(graph, "g", 2, str(tmp_path))
    refused = measured(tmp_path).problem
    assert refused is not None
    assert "labels label with fractions" in refused
    assert "--task regression" in refused
    found = measured(tmp_path, is_regression=True)
    assert found.targets is not None
    assert (found.targets.least, found.targets.greatest, found.labels) == (0, 2, None)


def test_what_no_run_can_train_on_is_still_counted(graph: Any, tmp_path: Path) -> None:
    graph.ndata["other"] = graph.ndata["feat"]
    del graph.ndata["test_mask"]
    dgl.distributed.partition_graph(graph, "g", 2, str(tmp_path))
    found = measured(tmp_path)
    assert found.problem is not None
    assert "no node tensor looks like the test-mask" in found.problem
    assert sum(part.num_nodes for part in found.parts) == NUM_NODES
    assert [tensor.name for tensor in found.node_tensors] == [
        "feat", "label", "other", "train_mask", "val_mask"
    ]  # fmt: skip
    chosen = measured(tmp_path, test_mask="val_mask", feature=("other",))
    assert chosen.problem is None
    assert [feature.name for feature in chosen.features] == ["other"]


def test_checksums_of_others_partitions_are_written_and_compared(folder: Path) -> None:
    assert measured(folder).num_checksums == 0
    contents = write_checksums(folder / "g.json")
    assert (folder / CHECKSUMS_NAME).is_file()
    assert measured(folder).num_checksums == len(contents.files) == 1 + 2 * 3
    file = folder / "part1" / "node_feat.dgl"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"part1/node_feat\.dgl .* another content") as refused:
        measured(folder)
    assert "restore" in refused.value.remedy


def test_a_damaged_structure_is_named(folder: Path) -> None:
    (folder / "part1" / "graph.dgl").write_bytes(bytes(1000))
    with pytest.raises(DataError, match=r"part1/graph\.dgl \(partition of host1\) is not"):
        measured(folder)
