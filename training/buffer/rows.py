"""The buffer's rows, and copying rows between places. Bytes only: any dtype and row shape."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray, Plan
from rudder.training.compiled import compiled

Words = NDArray[np.unsignedinteger[Any]]

_UNUSED = 2
"""References to a block that nobody uses: the pool's list and getrefcount's own argument."""


@compiled
def copy_rows(source: Words, source_rows: IntArray, target: Words, target_rows: IntArray) -> None:
    """`target[target_rows[i]] = source[source_rows[i]]` for every i; words[.., w], int64[n]."""
    for i in range(source_rows.shape[0]):
        a, b = source_rows[i], target_rows[i]
        for j in range(source.shape[1]):
            target[b, j] = source[a, j]


def word_type(row_bytes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The widest unsigned word that rows of this many bytes divide into."""
    width = next(size for size in (8, 4, 2, 1) if row_bytes % size == 0)
    return np.dtype(f"u{width}")


def as_words(rows: NDArray[np.uint8]) -> Words:
    """See uint8[n, row_bytes] as words [n, row_bytes / width]; no copy where it is aligned."""
    words = word_type(rows.shape[1])
    if rows.ctypes.data % words.itemsize:
        rows = rows.copy()
    return rows.view(words)


class BufferRows:
    """Rows of one named tensor in buffer slots: words[capacity, row_words]."""

    def __init__(self, capacity: int, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._words = self._allocate(capacity)

    def _allocate(self, capacity: int) -> Words:
        return as_words(np.empty((capacity, self._row_bytes), dtype=np.uint8))

    @property
    def capacity(self) -> int:
        """Rows that there is memory for."""
        return len(self._words)

    def resize(self, plan: Plan) -> None:
        """Do the plan's change of capacity, if it has one."""
        if plan.resize is None:
            return
        old, self._words = self._words, self._allocate(plan.resize.capacity)
        copy_rows(old, plan.resize.sources, self._words, plan.resize.targets)

    def read(self, slots: IntArray, into: Words, positions: IntArray) -> None:
        """Copy buffered rows to `into[positions]`."""
        copy_rows(self._words, slots, into, positions)

    def store(self, source: Words, source_rows: IntArray, slots: IntArray) -> None:
        """Copy `source[source_rows]` into slots."""
        copy_rows(source, source_rows, self._words, slots)


class MemoryPool:
    """Blocks of memory that are used again once nobody holds a view of them.

    A block is free when no array or tensor that was made of it is alive; that is read from its
    reference count, so a caller who keeps a batch keeps its memory, too.
    """

    def __init__(self, *, max_blocks: int) -> None:
        self._blocks: list[NDArray[np.uint8]] = []
        self._max_blocks = max_blocks

    @property
    def num_bytes(self) -> int:
        """Memory of all blocks, in use or not."""
        return sum(block.nbytes for block in self._blocks)

    def take(self, num_bytes: int) -> NDArray[np.uint8]:
        """uint8[num_bytes], contents undefined."""
        blocks = self._blocks
        free = [i for i in range(len(blocks)) if sys.getrefcount(blocks[i]) == _UNUSED]
        fitting = [i for i in free if blocks[i].nbytes >= num_bytes]
        if fitting:
            return blocks[min(fitting, key=lambda i: blocks[i].nbytes)][:num_bytes]
        block = _with_room(num_bytes)
        if free:
            blocks[max(free, key=lambda i: blocks[i].nbytes)] = block
        elif len(blocks) < self._max_blocks:
            blocks.append(block)
        return block[:num_bytes]


def _with_room(num_bytes: int) -> NDArray[np.uint8]:
    return np.empty(num_bytes + num_bytes // 8, dtype=np.uint8)
