"""The named node tensors that a loader delivers, seen as rows of bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.training.buffer.rows import Words, as_words
from rudder.training.errors import DataError


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


def words_of(rows: torch.Tensor) -> Words:
    """See a tensor [n, ...] as words [n, w]; no copy where it is contiguous and aligned."""
    row_bytes = math.prod(rows.shape[1:]) * rows.element_size()
    flat = rows.contiguous().view(-1).view(torch.uint8)
    return as_words(flat.numpy().reshape(len(rows), row_bytes))
