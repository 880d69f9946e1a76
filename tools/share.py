"""A share of the sampled rows that is fetched, counted over consecutive batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rudder.training.buffer.policy import IntArray

_BLOCK = 8


@dataclass(frozen=True)
class Share:
    """A share, and the standard error of it."""

    mid: float
    error: float

    @classmethod
    def of(cls, rows: IntArray, nodes: IntArray) -> Share:
        """int64[batches]: rows fetched, and sampled nodes used; the error from means of blocks."""
        blocks = np.arange(len(rows)) // _BLOCK
        of_blocks = np.bincount(blocks, rows) / np.maximum(np.bincount(blocks, nodes), 1)
        error = float(np.std(of_blocks, ddof=1)) / math.sqrt(len(of_blocks))
        return cls(float(rows.sum()) / float(nodes.sum()), error)

    def mixed(self, other: Share, *, weight: float) -> Share:
        """So much of the other, 0 to 1, in place of this one."""
        mid = (1 - weight) * self.mid + weight * other.mid
        return Share(mid, math.hypot((1 - weight) * self.error, weight * other.error))
