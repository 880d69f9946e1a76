"""The nearest of up to millions of past circumstances, found by looking at all of them.

A million rows of a few small integers are read in about a millisecond, one feature after the
other over blocks that stay in the cache; no tree is as fast in so many dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.memory.past.circumstances import UNIT, Vector
from rudder.training.compiled import compiled

_BLOCK = 2048
_FAR = 2**31 - 1


@dataclass(frozen=True)
class Near:
    """An episode by its number in memory, and its distance (0: equal circumstances)."""

    distance: float
    number: int


class NearestIndex:
    """Points that never change."""

    def __init__(self, vectors: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
        """vectors: uint8[n, features]; numbers: int64[n], higher is newer."""
        newest_first = np.argsort(-numbers)
        self._numbers = numbers[newest_first]
        self._columns = np.ascontiguousarray(vectors[newest_first].T)

    def nearest(self, vector: Vector, *, limit: int) -> list[Near]:
        """At most `limit`, nearest first, the newest first among equals."""
        if limit < 1:
            return []
        rows = np.empty(min(limit, len(self._numbers)), dtype=np.int64)
        squares = np.full(len(rows), _FAR, dtype=np.int32)
        _scan(self._columns, vector, rows, squares)
        return [
            Near(math.sqrt(square) / UNIT, int(self._numbers[row]))
            for row, square in zip(rows, squares, strict=True)
        ]


@compiled
def _insert(
    sums: NDArray[np.int32], start: int, rows: NDArray[np.int64], squares: NDArray[np.int32]
) -> None:
    """Put a block's nearest in their places."""
    for row in range(len(sums)):
        if sums[row] >= squares[-1]:
            continue
        place = len(rows) - 1
        while place > 0 and squares[place - 1] > sums[row]:
            squares[place] = squares[place - 1]
            rows[place] = rows[place - 1]
            place -= 1
        squares[place] = sums[row]
        rows[place] = start + row


@compiled
def _scan(
    columns: NDArray[np.uint8],
    vector: NDArray[np.uint8],
    rows: NDArray[np.int64],
    squares: NDArray[np.int32],
) -> None:
    """Fill rows and squares (of distances) with the nearest, of equals those that come first."""
    num_features, num_rows = columns.shape
    sums = np.empty(_BLOCK, dtype=np.int32)
    for start in range(0, num_rows, _BLOCK):
        size = min(_BLOCK, num_rows - start)
        sums[:] = 0
        for feature in range(num_features):
            wanted = np.int32(vector[feature])
            column = columns[feature, start : start + size]
            for row in range(size):
                difference = np.int32(column[row]) - wanted
                sums[row] += difference * difference
        nearest = np.int32(_FAR)
        for row in range(size):
            nearest = min(nearest, sums[row])
        if nearest < squares[-1]:
            _insert(sums[:size], start, rows, squares)
