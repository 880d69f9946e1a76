"""A DistGraph's node tensors by what a run uses them for, whatever their owner calls them.

`graph.ndata["feat"]`, `["label"]`, `["train_mask"]`, `["val_mask"]` and `["test_mask"]` then are
the tensors that the user named. Where several tensors, or another shape, stand behind a role, it
is a `Joined`; a loader reads its parts, which are named `feat/0` and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rudder.training.loading.batch import Batch
from rudder.training.manifest import FEATURE, LABEL
from rudder.training.partitioned_graph import PartitionedGraph

Join = Callable[[Sequence[Tensor]], Tensor]


class Joined:
    """DistTensors read as one; of DistTensor it has what Rudder reads."""

    def __init__(self, tensors: Sequence[Any], join: Join) -> None:
        self._tensors, self._join = tensors, join
        sample = join([tensor.local_partition[:1] for tensor in tensors])
        self.shape = (len(tensors[0]), *sample.shape[1:])
        self.dtype = sample.dtype

    def __getitem__(self, nodes: Tensor) -> Tensor:
        """Rows of global ids."""
        return self._join([tensor[nodes] for tensor in self._tensors])

    @property
    def local_partition(self) -> Tensor:
        """The partition's own rows; a copy, unless it is one tensor in another shape."""
        return self._join([tensor.local_partition for tensor in self._tensors])


def side_by_side(rows: Sequence[Tensor]) -> Tensor:
    """float32[n, width] of tensors [n, ...]; one alone keeps its dtype."""
    flat = [part.reshape(len(part), -1) for part in rows]
    return flat[0] if len(flat) == 1 else torch.cat([part.float() for part in flat], dim=1)


def one_column(rows: Sequence[Tensor]) -> Tensor:
    """[n] of one tensor [n, 1]."""
    return rows[0].reshape(len(rows[0]))


def nobody(rows: Sequence[Tensor]) -> Tensor:
    """A mask that is 0 for all nodes."""
    return torch.zeros_like(rows[0])


_JOINS: dict[str, Join] = {FEATURE: side_by_side, LABEL: one_column}


def name_roles(graph: Any, run: PartitionedGraph) -> None:
    """Give the tensors of a run their roles in `graph.ndata`, in this process alone."""
    given = dict(graph.ndata.items())
    features = [given[feature.name] for feature in run.features]
    is_plain = len(features) == 1 and len(run.features[0].row_shape) == 1
    _give(graph, FEATURE, features, is_plain=is_plain)
    is_plain = run.label.width > 1 or not run.label.row_shape
    _give(graph, LABEL, [given[run.label.name]], is_plain=is_plain)
    graph.ndata["train_mask"], graph.ndata["test_mask"] = (
        given[run.train_mask],
        given[run.test_mask],
    )
    val = run.val_mask
    graph.ndata["val_mask"] = given[val] if val else Joined([given[run.test_mask]], nobody)


def _give(graph: Any, role: str, tensors: Sequence[Any], *, is_plain: bool) -> None:
    if is_plain:
        graph.ndata[role] = tensors[0]
        return
    for place, tensor in enumerate(tensors):
        graph.ndata[f"{role}/{place}"] = tensor
    graph.ndata[role] = Joined(tensors, _JOINS[role])


def parts_of(graph: Any, role: str) -> list[str]:
    """The names under which a loader reads the tensors of a role."""
    if not isinstance(graph.ndata[role], Joined):
        return [role]
    return [name for name in graph.ndata if name.startswith(f"{role}/")]


def row_bytes_of(graph: Any, role: str) -> int:
    """Bytes of a node's rows in all tensors of a role, as they are stored."""
    tensors = [graph.ndata[name] for name in parts_of(graph, role)]
    return sum(math.prod(tensor.shape[1:]) * tensor.dtype.itemsize for tensor in tensors)


def join_in(batch: Batch) -> None:
    """Give a batch its input and its labels by role, if it has them in parts."""
    for role, rows in ((FEATURE, batch.blocks[0].srcdata), (LABEL, batch.blocks[-1].dstdata)):
        parts: list[Tensor] = []
        while (name := f"{role}/{len(parts)}") in rows:
            parts.append(rows.pop(name))
        if parts:
            rows[role] = _JOINS[role](parts)
