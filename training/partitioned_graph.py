"""What a run needs to know of a graph that is cut into DistDGL partitions, whoever has cut it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rudder.training.settings import Frozen


class TensorChoice(Frozen):
    """The node tensors that a user names; what is not named is guessed.

    edge_weight: an edge tensor; neighbours are drawn in proportion to it. None: all alike.
    is_regression: labels are numbers to predict, not classes.
    """

    feature: tuple[str, ...] = ()
    label: str | None = None
    train_mask: str | None = None
    val_mask: str | None = None
    test_mask: str | None = None
    edge_weight: str | None = None
    is_regression: bool = False


class TensorInfo(Frozen):
    """A tensor with one row per node or edge. dtype: as numpy names it."""

    name: str
    row_shape: tuple[int, ...]
    dtype: str

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return math.prod(self.row_shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        shape = "".join(f", {size}" for size in self.row_shape)
        return f"{self.name} ({self.dtype} [n{shape}])"


class PartInfo(Frozen):
    """One partition: its own nodes, the edges that point at them, and its files' size.

    num_halo: nodes of other partitions within one hop; None where nobody has counted them.
    """

    num_nodes: int
    num_edges: int
    num_bytes: int
    num_halo: int | None = None


class PartitionedGraph(Frozen):
    """Sizes, and the tensors that a run uses.

    dataset: how a user calls it. part_config: DistDGL's JSON. features: side by side they are the
    model's input. multilabel: labels are [nodes, classes] of 0 and 1, else class numbers from 0.
    """

    dataset: str
    graph_name: str
    part_config: Path
    num_nodes: int
    num_edges: int
    parts: tuple[PartInfo, ...]
    features: tuple[TensorInfo, ...]
    label: TensorInfo
    train_mask: str
    val_mask: str | None
    test_mask: str
    num_train: int
    num_classes: int
    multilabel: bool

    @property
    def directory(self) -> Path:
        """The folder of the JSON."""
        return self.part_config.parent

    @property
    def num_parts(self) -> int:
        """Partitions; each host has one."""
        return len(self.parts)

    @property
    def feature_dim(self) -> int:
        """Numbers in a node's input row."""
        return sum(feature.width for feature in self.features)

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's features."""
        return sum(feature.row_bytes for feature in self.features)
