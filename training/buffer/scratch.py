"""The output arrays of plans, which are reused once nobody refers to them.

New arrays of 100 000 ids would cost more in page faults than the loop that fills them.
"""

from __future__ import annotations

import sys

import numpy as np

from rudder.training.buffer.policy import IntArray

_OURS = 3
"""References to an array that nobody uses: the list, the loop variable, getrefcount's argument."""


class Scratch:
    """Hands out int64 arrays, each of them again once all views of it are gone."""

    def __init__(self) -> None:
        self._arrays: list[IntArray] = []

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in self._arrays)

    def empty(self, size: int) -> IntArray:
        """int64[size] with undefined contents."""
        for array in self._arrays:
            if len(array) >= size and sys.getrefcount(array) == _OURS:
                return array[:size]
        self._arrays = [array for array in self._arrays if len(array) >= size]
        self._arrays.append(np.empty(size + size // 4, dtype=np.int64))
        return self._arrays[-1][:size]
