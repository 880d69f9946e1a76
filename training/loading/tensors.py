"""The named tensors that a loader delivers, of nodes and of edges: read ahead, or read late."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import dgl
import numpy as np
import torch
from numpy.typing import NDArray

from rudder.training.buffer.rows import Words, as_words
from rudder.training.errors import DataError
from rudder.training.loading.arguments import Field, TensorNames
from rudder.training.loading.batch import Batch
from rudder.training.partition_view import IntArray


@dataclass(frozen=True, eq=False)
class GraphTensor:
    """One named tensor of a DistGraph: `local` has the partition's own rows, [inner, *shape].

    field: the loader's parameter that names it, which says where it is delivered; `key` is what
    servers call it.
    """

    field: Field
    name: str
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    local: torch.Tensor

    @classmethod
    def of(cls, graph: Any, field: Field, name: str) -> GraphTensor:
        """Find `graph.ndata[name]`, or of edges `graph.edata[name]`.

        Raises DataError with the names there are.
        """
        kind, tensors = _tensors_of(graph, field)
        if name not in tensors:
            raise DataError(
                f"the graph has no {kind} tensor {name!r}; it has {sorted(tensors)}",
                remedy=f"name one of these in `{field.removeprefix('pair_')}`",
            )
        tensor = tensors[name]
        return cls(
            field=field,
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

    def ids(self, batch: Batch) -> torch.Tensor:
        """int64[n]: whose rows a batch gets, in the order of `put`."""
        return torch.cat([ids for ids, _ in self._frames(batch)])

    def put(self, batch: Batch, rows: torch.Tensor) -> None:
        """Deliver [n, *shape] rows."""
        done = 0
        for ids, frame in self._frames(batch):
            frame[self.name] = rows[done : done + len(ids)]
            done += len(ids)

    def _frames(self, batch: Batch) -> Iterator[tuple[torch.Tensor, MutableMapping[str, Any]]]:
        if self.field == "inputs":
            yield batch.input_nodes, batch.blocks[0].srcdata
        elif self.field == "outputs":
            yield batch.seeds, batch.blocks[-1].dstdata
        elif self.field == "edge_inputs":
            yield from ((block.edata[dgl.EID], block.edata) for block in batch.blocks)
        elif batch.pair_graph is not None:
            yield batch.pair_graph.edata[dgl.EID], batch.pair_graph.edata


def _tensors_of(graph: Any, field: Field) -> tuple[str, Any]:
    return ("node", graph.ndata) if field in ("inputs", "outputs") else ("edge", graph.edata)


class Delivery:
    """The tensors that one loader delivers: those that its thread reads ahead, and mutable ones,
    which are read when a batch is taken."""

    def __init__(self, graph: Any, names: TensorNames) -> None:
        """Raises DataError for a name that the graph does not have."""
        self._graph = graph
        all_ = [GraphTensor.of(graph, field, name) for field, name in names.each()]
        self._late = [tensor for tensor in all_ if tensor.name in names.mutable]
        self.ahead = tuple(tensor for tensor in all_ if tensor.name not in names.mutable)

    @property
    def has_edges(self) -> bool:
        """Whether some that are read ahead are of edges."""
        return any(tensor.field in ("edge_inputs", "pair_outputs") for tensor in self.ahead)

    def named(self, field: Field) -> tuple[GraphTensor, ...]:
        """Those that are read ahead and that this parameter names."""
        return tuple(tensor for tensor in self.ahead if tensor.field == field)

    def read(self, tensor: GraphTensor, ids: IntArray) -> torch.Tensor:
        """Rows of int64[n] global ids as they are now."""
        _, tensors = _tensors_of(self._graph, tensor.field)
        rows: torch.Tensor = tensors[tensor.name][torch.from_numpy(ids)]
        return rows

    def add_late(self, batch: Batch) -> None:
        """Read the tensors for a batch that are not read ahead."""
        for tensor in self._late:
            tensor.put(batch, self.read(tensor, tensor.ids(batch).numpy()))


def row_bytes_of(tensors: Sequence[GraphTensor]) -> int:
    """Bytes of one row of each."""
    return sum(tensor.row_bytes for tensor in tensors)


def words_of(rows: torch.Tensor) -> Words:
    """See a tensor [n, ...] as words [n, w]; no copy where it is contiguous and aligned."""
    row_bytes = math.prod(rows.shape[1:]) * rows.element_size()
    flat = rows.contiguous().view(-1).view(torch.uint8)
    return as_words(flat.numpy().reshape(len(rows), row_bytes))
