"""The rows in the buffer, and copies of rows. Rows are bytes, of any dtype and shape."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import BatchPlan, IntArray
from rudder.training.compiled import compiled

Bytes = NDArray[np.uint8]
Words = NDArray[np.unsignedinteger[Any]]


@compiled
def copy_rows(source: Words, source_rows: IntArray, target: Words, target_rows: IntArray) -> None:
    """`target[target_rows[i]] = source[source_rows[i]]` for every i; words[.., w], int64[n]."""
    for i in range(source_rows.shape[0]):
        a, b = source_rows[i], target_rows[i]
        for j in range(source.shape[1]):
            target[b, j] = source[a, j]


def word_type(row_bytes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The widest unsigned word whose size divides rows of this many bytes."""
    width = next(size for size in (8, 4, 2, 1) if row_bytes % size == 0)
    return np.dtype(f"u{width}")


def as_words(rows: Bytes) -> Words:
    """View uint8[n, row_bytes] as words [n, row_bytes / width]; copied only if not aligned."""
    words = word_type(rows.shape[1])
    if rows.ctypes.data % words.itemsize:
        rows = rows.copy()
    return rows.view(words)


class BufferRows:
    """The rows of one named tensor, by slot: words[capacity, row_words]."""

    def __init__(self, capacity: int, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._words = self._allocate(capacity)

    def _allocate(self, capacity: int) -> Words:
        return as_words(np.empty((capacity, self._row_bytes), dtype=np.uint8))

    @property
    def capacity(self) -> int:
        """Rows that there is memory for."""
        return len(self._words)

    def resize(self, plan: BatchPlan) -> None:
        """Make the plan's change of capacity, if it has one."""
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
    """Blocks of memory, each lent to one borrower at a time.

    A lease is an array over the whole block. Every view, tensor or memoryview made of what `take`
    returns keeps its lease alive, and when the last of them goes, on whatever thread, the block
    comes back. A caller who keeps a batch so keeps its memory. `take` is for one thread.
    """

    def __init__(self, *, max_blocks: int) -> None:
        """max_blocks: blocks that are kept; more are lent where needed, but not taken back."""
        self._max_blocks = max_blocks
        self._free: list[Bytes] = []
        self._lent: dict[int, tuple[Bytes, weakref.ref[Bytes]]] = {}
        self._returned: deque[int] = deque()
        self._numbers = itertools.count()

    @property
    def num_bytes(self) -> int:
        """Memory of the blocks that are kept, lent or not."""
        lent = (block for block, _ in list(self._lent.values()))
        return sum(block.nbytes for block in (*self._free, *lent))

    def take(self, num_bytes: int) -> Bytes:
        """uint8[num_bytes], of any content."""
        while self._returned:
            self._free.append(self._lent.pop(self._returned.popleft())[0])
        fitting = [i for i, block in enumerate(self._free) if block.nbytes >= num_bytes]
        if fitting:
            block = self._free.pop(min(fitting, key=lambda i: (self._free[i].nbytes, -i)))
            return self._lend(block)[:num_bytes]
        block = np.empty(num_bytes + num_bytes // 8 + 1, dtype=np.uint8)
        if self._free:  # one that is too small makes room
            self._free.pop(max(range(len(self._free)), key=lambda i: self._free[i].nbytes))
        if len(self._free) + len(self._lent) < self._max_blocks:
            return self._lend(block)[:num_bytes]
        return block[:num_bytes]

    def take_ids(self, count: int, size: int) -> IntArray:
        """int64[count, size], of any content."""
        return self.take(8 * count * size).view(np.int64).reshape(count, size)

    def _lend(self, block: Bytes) -> Bytes:
        # Over a memoryview: numpy makes views of an array's view keep the array, not the view.
        lease: Bytes = np.frombuffer(block.data, dtype=np.uint8)
        number = next(self._numbers)
        returned = self._returned  # not self: a lease may outlive the pool
        self._lent[number] = (block, weakref.ref(lease, lambda _: returned.append(number)))
        return lease
