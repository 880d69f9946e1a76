"""A description of partitions that tests share; there are no files behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rudder.training.partitioned_graph import PartInfo, PartitionedGraph, TensorInfo


def partitioned_graph(
    *, feature_dim: int = 8, part_bytes: int = 1000, **more: Any
) -> PartitionedGraph:
    """Two parts of 50 nodes."""
    part = PartInfo(num_nodes=50, num_edges=200, num_bytes=part_bytes, num_halo=40)
    values: dict[str, Any] = {
        "dataset": "npz:ring.npz",
        "graph_name": "ring",
        "part_config": Path("nowhere") / "ring.json",
        "num_nodes": 100,
        "num_edges": 400,
        "parts": (part, part),
        "features": (TensorInfo(name="feat", row_shape=(feature_dim,), dtype="float32"),),
        "label": TensorInfo(name="label", row_shape=(), dtype="int64"),
        "train_mask": "train_mask",
        "val_mask": None,
        "test_mask": "test_mask",
        "num_train": 3,
        "num_classes": 3,
        "multilabel": False,
        **more,
    }
    return PartitionedGraph(**values)
