"""Loaders of public datasets, on tiny files in the formats that ogb and DGL keep on disk."""

from __future__ import annotations

import errno
import json
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
import pytest
import scipy.sparse  # type: ignore[import-untyped,unused-ignore]
import torch

from rudder.training.datasets import public
from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.public import (
    OGB_DIR_VARIABLE,
    graph_from_dgl,
    graph_from_ogb,
    load_dgl,
    load_ogb,
)
from rudder.training.errors import DataError, MachineError
from tests.waiting import WAIT_SECONDS

N = 8
SRC, DST = np.arange(N), (np.arange(N) + 1) % N
FEATURES = np.linspace(0, 1, N * 3, dtype=np.float32).reshape(N, 3)


def dgl_folder(root: Path, name: str) -> Path:
    """The folder in which DGL looks for a dataset's raw files: its name holds its address."""
    classes = {"reddit": dgl.data.RedditDataset, "yelp": dgl.data.YelpDataset}
    dataset = classes[name].__new__(classes[name])
    dataset._name, dataset._raw_dir = name, str(root)
    dataset._url = dgl.data.utils._get_dgl_url(f"dataset/{name}.zip")
    folder = Path(dataset.raw_path)
    folder.mkdir(parents=True)
    return folder


def adjacency() -> Any:
    return scipy.sparse.coo_matrix((np.ones(N), (SRC, DST)), shape=(N, N))


def test_reddits_files_become_a_graph(tmp_path: Path) -> None:
    folder = dgl_folder(tmp_path, "reddit")
    scipy.sparse.save_npz(folder / "reddit_graph.npz", adjacency())
    np.savez(
        folder / "reddit_data.npz",
        feature=FEATURES,
        label=np.arange(N) * 5,
        node_types=np.array([1, 1, 1, 1, 2, 2, 3, 3]),
    )
    graph = check_graph(load_dgl("reddit", progress=print, root=tmp_path))
    assert graph.num_edges == N
    assert graph.num_classes == 41
    assert sorted(graph.labels.tolist()) == [5 * i for i in range(N)]
    assert [int(mask.sum()) for mask in graph.masks.values()] == [4, 2, 2]
    row_of_label = {int(label): row for row, label in enumerate(graph.labels)}
    np.testing.assert_array_equal(graph.features[row_of_label[10]], FEATURES[2])
    again = load_dgl("reddit", progress=print, root=tmp_path)  # from DGL's own processed file
    np.testing.assert_array_equal(again.features, graph.features)
    assert again.train_mask.dtype == np.bool_


def test_yelps_files_become_a_graph_of_label_sets(tmp_path: Path) -> None:
    folder = dgl_folder(tmp_path, "yelp")
    scipy.sparse.save_npz(folder / "adj_full.npz", adjacency().tocsr())
    np.save(folder / "feats.npy", FEATURES.astype(np.float64))
    sets = np.random.default_rng(0).integers(0, 2, (N, 100))
    (folder / "class_map.json").write_text(json.dumps({i: sets[i].tolist() for i in range(N)}))
    role = {"tr": [0, 1, 2, 3], "va": [4, 5], "te": [6, 7]}
    (folder / "role.json").write_text(json.dumps(role))
    graph = check_graph(load_dgl("yelp", progress=print, root=tmp_path))
    assert graph.multilabel
    assert graph.num_classes == 100
    assert graph.features.dtype == np.float32
    np.testing.assert_array_equal(graph.labels, sets)
    assert np.flatnonzero(graph.test_mask).tolist() == [6, 7]


def test_damaged_files_become_an_error_that_names_their_folder(tmp_path: Path) -> None:
    folder = dgl_folder(tmp_path, "reddit")
    (folder / "reddit_graph.npz").write_bytes(b"not a zip file")
    with pytest.raises(DataError, match="reddit can be neither read nor fetched") as refused:
        load_dgl("reddit", progress=print, root=tmp_path)
    assert str(tmp_path) in refused.value.remedy


def test_a_dgl_graph_is_converted_with_its_masks() -> None:
    content = dgl.graph((torch.from_numpy(SRC), torch.from_numpy(DST)), idtype=torch.int32)
    content.ndata["feat"] = torch.from_numpy(FEATURES)
    content.ndata["label"] = torch.arange(N, dtype=torch.int32)
    for first, name in enumerate(("train_mask", "val_mask", "test_mask")):
        content.ndata[name] = (torch.arange(N) == first).to(torch.uint8)
    graph = check_graph(graph_from_dgl("ring", content, num_classes=N, multilabel=False))
    np.testing.assert_array_equal(graph.src, SRC)
    np.testing.assert_array_equal(graph.dst, DST)
    assert np.flatnonzero(graph.val_mask).tolist() == [1]


def test_ogbs_content_is_converted_and_nan_labels_mean_none() -> None:
    content = {
        "edge_index": np.stack([SRC, DST]),
        "node_feat": FEATURES.astype(np.float16),
        "num_nodes": N,
    }
    labels = np.array([[0.0], [1], [2], [0], [1], [np.nan], [np.nan], [2]], dtype=np.float32)
    split = {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([7])}
    graph = check_graph(graph_from_ogb("ogbn-x", content, labels, split, num_classes=3))
    assert graph.labels.tolist() == [0, 1, 2, 0, 1, -1, -1, 2]
    assert graph.features.dtype == np.float16
    assert np.flatnonzero(graph.train_mask).tolist() == [0, 1]


def write_arxiv(root: Path) -> None:
    """ogbn-arxiv as ogb unpacks it: gzipped tables without headers."""
    folder = root / "ogbn_arxiv"
    tables = {
        "raw/edge": np.stack([SRC, DST], axis=1),
        "raw/node-feat": FEATURES,
        "raw/node-label": np.arange(N)[:, None],
        "raw/node_year": np.full((N, 1), 2020),
        "raw/num-node-list": [[N]],
        "raw/num-edge-list": [[N]],
        "split/time/train": [[0], [1], [2]],
        "split/time/valid": [[3]],
        "split/time/test": [[4], [5]],
    }
    for name, rows in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(path, index=False, header=False)
    (folder / "processed").mkdir()
    (folder / "RELEASE_v1.txt").write_text("")


def test_ogbs_files_become_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ogb", reason="the extra rudder-gnn[public] is not installed")
    write_arxiv(tmp_path)
    monkeypatch.setenv(OGB_DIR_VARIABLE, str(tmp_path))
    graph = check_graph(load_ogb("ogbn-arxiv", progress=print))
    assert graph.num_classes == 40
    np.testing.assert_array_equal(graph.src, SRC)
    np.testing.assert_allclose(graph.features, FEATURES, rtol=1e-6)
    assert graph.labels.tolist() == list(range(N))
    assert np.flatnonzero(graph.test_mask).tolist() == [4, 5]


def test_a_missing_ogb_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    with pytest.raises(MachineError) as refused:
        load_ogb("ogbn-arxiv", progress=print)
    assert "pip install 'rudder-gnn[public]'" in refused.value.remedy


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionError("no route to host"),
        EOFError("EOF when reading a line"),
        RuntimeError("Stopped downloading due to interruption."),
        SystemExit(-1),
        UserWarning("File x is downloaded but the content hash does not match."),
        KeyError("feature"),
    ],
)
def test_whatever_a_library_fails_with_becomes_an_error_with_a_remedy(
    failure: BaseException,
) -> None:
    with pytest.raises(DataError, match="reddit can be neither") as refused, reading():
        raise failure
    assert type(failure).__name__ in refused.value.message
    assert refused.value.remedy == "try again"


def test_a_full_disk_is_not_taken_for_a_broken_download() -> None:
    with pytest.raises(OSError, match="No space") as raised, reading():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.errno == errno.ENOSPC


@contextmanager
def reading() -> Iterator[None]:
    with public._reading("reddit", remedy="try again"):
        yield


def test_a_growing_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_SECONDS_BETWEEN_NEWS", 0.01)
    folder, arrived = tmp_path / "folder", tmp_path / "arrived"
    folder.mkdir()
    (folder / "old").write_bytes(b"x" * 2**20)
    arrived.write_bytes(b"x" * 3 * 2**20)
    told: queue.Queue[str] = queue.Queue()
    with public._telling_growth(folder, told.put):
        arrived.rename(folder / "new")
        assert told.get(timeout=WAIT_SECONDS) == f"3 MiB more in {folder}"
