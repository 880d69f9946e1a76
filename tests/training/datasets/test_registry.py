from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rudder.training.datasets.registry import load_dataset
from rudder.training.errors import ConfigError, DataError


def test_a_name_gives_a_checked_graph_and_the_loading_is_told() -> None:
    told: list[str] = []
    graph = load_dataset("synthetic:tiny", seed=0, progress=told.append)
    assert graph.name == "synthetic:tiny"
    assert graph.num_nodes == 20_000
    assert told[0] == "loading synthetic:tiny"


def test_undirected_adds_the_reverse_of_each_edge(tmp_path: Path) -> None:
    path = tmp_path / "arrow.npz"
    np.savez(
        path,
        src=[0, 1],
        dst=[1, 2],
        features=np.ones((3, 1)),
        labels=[0, 1, 0],
        train_idx=[0],
        test_idx=[1],
    )
    spec = f"npz:{path}"
    assert load_dataset(spec, seed=0, progress=print).num_edges == 2
    assert load_dataset(spec, seed=0, undirected=True, progress=print).num_edges == 4
    np.savez(path, **np.load(path), weight=[1.0, 0.5])
    weight = load_dataset(spec, seed=0, progress=print).weight
    assert weight is not None
    assert weight.tolist() == [1, 0.5]
    with pytest.raises(ConfigError, match="whose edges have weights"):
        load_dataset(spec, seed=0, undirected=True, progress=print)


def test_bad_names_and_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset = 'nonsense'"):
        load_dataset("nonsense", seed=0, progress=print)
    with pytest.raises(DataError, match="there is no file"):
        load_dataset(f"csv:{tmp_path}", seed=0, progress=print)
    np.savez(
        tmp_path / "bad.npz",
        src=[9],
        dst=[0],
        features=np.ones((2, 1)),
        labels=[0, 0],
        train_idx=[0],
        test_idx=[1],
    )
    with pytest.raises(DataError, match=r"npz:.*bad.npz: src\[0\] = 9"):
        load_dataset(f"npz:{tmp_path}/bad.npz", seed=0, progress=print)
