from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.npz_file import load_npz
from rudder.training.errors import DataError

GOOD: dict[str, Any] = {
    "src": np.array([0, 1, 2, 3]),
    "dst": np.array([1, 2, 3, 0]),
    "features": np.arange(8, dtype=np.float64).reshape(4, 2),
    "labels": np.array([0, 1, 0, 2], dtype=np.uint8),
    "train_mask": np.array([True, False, False, False]),
    "val_mask": np.array([0, 1, 0, 0]),
    "test_mask": np.array([False, False, True, True]),
}


def written(folder: Path, **changes: Any) -> Path:
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def test_arrays_become_a_graph(tmp_path: Path) -> None:
    graph = check_graph(load_npz(written(tmp_path)))
    np.testing.assert_array_equal(graph.src, GOOD["src"])
    np.testing.assert_array_equal(graph.features, GOOD["features"])
    assert graph.features.dtype == np.float32
    assert graph.labels.dtype == np.int64
    assert graph.num_classes == 3
    assert graph.val_mask.tolist() == [False, True, False, False]
    assert not graph.multilabel


def test_splits_may_be_node_ids_and_validation_may_be_absent(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        train_mask=None,
        train_idx=np.array([3, 0]),
        val_mask=None,
        test_mask=None,
        test_idx=np.array([1], dtype=np.int32),
    )
    graph = check_graph(load_npz(path))
    assert graph.train_mask.tolist() == [True, False, False, True]
    assert not graph.val_mask.any()
    assert graph.test_mask.tolist() == [False, True, False, False]


def test_labels_of_two_dimensions_are_sets_of_classes(tmp_path: Path) -> None:
    graph = check_graph(load_npz(written(tmp_path, labels=np.eye(4, 5, dtype=np.int64))))
    assert graph.multilabel
    assert graph.num_classes == 5
    assert graph.labels.dtype == np.float32


def test_float16_features_stay_float16_and_phases_are_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path, features=GOOD["features"].astype(np.float16), seed_phase=np.array([1, 0, 0, 1])
    )
    graph = check_graph(load_npz(path))
    assert graph.features.dtype == np.float16
    assert graph.seed_phase is not None
    assert graph.seed_phase.tolist() == [1, 0, 0, 1]


def test_labels_with_fractions_are_numbers_to_predict(tmp_path: Path) -> None:
    graph = check_graph(load_npz(written(tmp_path, labels=np.array([0.5, -2, 1e6, 3]))))
    assert graph.labels.dtype == np.float32
    assert graph.labels.tolist() == [0.5, -2, 1e6, 3]
    assert graph.num_classes == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"src": None}, "no array 'src'"),
        ({"trian_mask": np.array([1])}, "trian_mask is not an array of this format"),
        ({"src": np.array([0.0, 1.0, 2.0, 3.0])}, "src has dtype float64"),
        ({"labels": np.array([0.0, 1, 0, 2])}, "labels has dtype float64"),
        ({"features": np.array([["a", "b"]] * 4)}, "features has dtype"),
        ({"train_mask": None}, "no nodes for the train split"),
        ({"train_idx": np.array([0])}, "train_mask and train_idx for the train split"),
        ({"train_mask": np.array([0, 2, 3, 1])}, "train_mask has dtype"),
        ({"train_mask": None, "train_idx": np.array([0, 4])}, r"train_idx\[1\] = 4"),
        ({"labels": np.array([0, 1, 0, 2**64 - 1], dtype=np.uint64)}, "labels holds 1844"),
        ({"features": np.ones((4, 2), dtype=np.complex64)}, "allowed: real numbers"),
        ({"features": 10**9 + np.arange(8).reshape(4, 2)}, r"features\[:, 0\]: 4 values become 1"),
        ({"features": 1e9 + np.arange(8).reshape(4, 2) / 9}, "4 values become 1 as float32"),
        ({"num_classes": np.array([2, 3])}, r"num_classes has shape \[2\]"),
        ({"train_mask": None, "train_idx": np.array([0, 2, 0])}, r"named \(1 such\)"),
        ({"labels": np.array([{}, {}], dtype=object)}, "not a readable .npz"),
    ],
)
def test_what_is_no_such_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says) as refused:
        load_npz(written(tmp_path, **changes))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"src": np.array([0, 1, 2, 4])}, r"src\[3\] = 4"),
        ({"features": np.full((4, 2), np.nan)}, r"features\[0, 0\] = nan"),
        ({"features": np.full((4, 2), 1e300)}, r"features\[0, 0\] = inf"),
        ({"num_classes": np.array(2)}, r"labels\[3\] = 2"),
        ({"train_mask": np.array([True, True])}, "train_mask"),
        ({"labels": np.array([0, 1])}, "labels"),
    ],
)
def test_what_is_no_usable_graph_is_refused_by_the_check(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    graph = load_npz(written(tmp_path, **changes))
    with pytest.raises(DataError, match=says):
        check_graph(graph)


def test_missing_garbled_and_cut_off_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        load_npz(tmp_path / "none.npz")
    (tmp_path / "garbled.npz").write_bytes(b"PK\x03\x04 and then nothing of the kind")
    with pytest.raises(DataError, match="not a readable"):
        load_npz(tmp_path / "garbled.npz")
    whole = written(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable"):
        load_npz(tmp_path / "cut.npz")
    np.save(tmp_path / "single.npy", np.arange(3))
    with pytest.raises(DataError, match="a single array"):
        load_npz(tmp_path / "single.npy")
