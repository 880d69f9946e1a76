"""The named node tensors that a loader delivers: read ahead as rows of bytes, or read late."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import dgl
import numpy as np
import torch
from numpy.typing import NDArray

from rudder.training.buffer.rows import Words, as_words
from rudder.training.errors import DataError
from rudder.training.loading.arguments import TensorNames
from rudder.training.loading.batch import Batch
from rudder.training.partition_view import IntArray


@dataclass(frozen=True, eq=False)
class NodeTensor:
    """One named tensor of a DistGraph: `local` has the partition's own rows, [inner, *shape].

    `key` is what servers call it.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    local: torch.Tensor

    @classmethod
    def of(cls, graph: Any, name: str) -> NodeTensor:
        """Find `graph.ndata[name]`; raises DataError with the names there are."""
        if name not in graph.ndata:
            raise DataError(
                f"the graph has no node tensor {name!r}; it has {sorted(graph.ndata)}",
                remedy="name one of these in `inputs` or `outputs`",
            )
        tensor = graph.ndata[name]
        return cls(
            name=name,
            key=str(tensor._name),
            shape=tuple(tensor.shape[1:]),
            dtype=tensor.dtype,
            local=tensor.local_partition,
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.local.element_size()

    @property
    def local_words(self) -> Words:
        """The partition's own rows; no copy."""
        return words_of(self.local)

    def from_bytes(self, rows: NDArray[np.uint8]) -> torch.Tensor:
        """See uint8[n, row_bytes] as a tensor [n, *shape]; no copy."""
        flat = torch.from_numpy(rows.reshape(-1)).view(self.dtype)
        return flat.view(len(rows), *self.shape)


class Delivery:
    """The tensors that one loader delivers.

    inputs, outputs: those that its thread reads ahead; mutable ones and those of edges are read
    when a batch is taken.
    """

    def __init__(self, graph: Any, names: TensorNames) -> None:
        """Raises DataError for a name that the graph does not have."""
        self._graph = graph
        self.inputs = tuple(NodeTensor.of(graph, name) for name in names.inputs_ahead)
        self.outputs = tuple(NodeTensor.of(graph, name) for name in names.outputs_ahead)
        self._late_inputs = [name for name in names.inputs if name in names.mutable]
        self._late_outputs = [name for name in names.outputs if name in names.mutable]
        self._edge_inputs, self._edge_outputs = names.edge_inputs, names.edge_outputs
        if unknown := sorted({*names.edge_inputs, *names.edge_outputs} - set(graph.edata)):
            raise DataError(
                f"the graph has no edge tensors {unknown}; it has {sorted(graph.edata)}",
                remedy="name some of these",
            )

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's input rows that are read ahead."""
        return sum(tensor.row_bytes for tensor in self.inputs)

    def read(self, tensor: NodeTensor, nodes: IntArray) -> torch.Tensor:
        """Rows of int64[n] global ids as they are now."""
        rows: torch.Tensor = self._graph.ndata[tensor.name][torch.from_numpy(nodes)]
        return rows

    def add_late(self, batch: Batch) -> None:
        """Read the tensors for a batch that are not read ahead."""
        for name in self._late_inputs:
            batch.blocks[0].srcdata[name] = self._graph.ndata[name][batch.input_nodes]
        for name in self._late_outputs:
            batch.blocks[-1].dstdata[name] = self._graph.ndata[name][batch.seeds]
        for name in self._edge_inputs:
            ids = [block.edata[dgl.EID] for block in batch.blocks]
            rows = self._graph.edata[name][torch.cat(ids)]
            for block, own in zip(
                batch.blocks, rows.split([len(each) for each in ids]), strict=True
            ):
                block.edata[name] = own
        if batch.pair_graph is not None:
            for name in self._edge_outputs:
                batch.pair_graph.edata[name] = self._graph.edata[name][
                    batch.pair_graph.edata[dgl.EID]
                ]


def words_of(rows: torch.Tensor) -> Words:
    """See a tensor [n, ...] as words [n, w]; no copy where it is contiguous and aligned."""
    row_bytes = math.prod(rows.shape[1:]) * rows.element_size()
    flat = rows.contiguous().view(-1).view(torch.uint8)
    return as_words(flat.numpy().reshape(len(rows), row_bytes))
