"""Output arrays of plans, used again once nobody holds them.

Fresh arrays of 100 000 ids cost more in page faults than the loop that fills them.
"""

from __future__ import annotations

import sys

import numpy as np

from rudder.training.buffer.policy import IntArray

_OURS = 3
"""References to an array that only this class holds: its list, a loop's name, an argument."""


class Scratch:
    """Hands out int64 arrays. One is handed out again when all views of it are gone."""

    def __init__(self) -> None:
        self._arrays: list[IntArray] = []

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in self._arrays)

    def empty(self, size: int) -> IntArray:
        """int64[size], of any content."""
        for array in self._arrays:
            if len(array) >= size and sys.getrefcount(array) == _OURS:
                return array[:size]
        self._arrays = [array for array in self._arrays if len(array) >= size]
        self._arrays.append(np.empty(size + size // 4, dtype=np.int64))
        return self._arrays[-1][:size]
