"""Many stacks of numbers in one block of memory, for compiled loops.

Numbers are stored in chunks, so a loop sees which ones come next and can prefetch their records.
An empty chunk becomes available to all stacks.

`chunks`: int32[num_chunks, CHUNK]; each begins with the number of the chunk below it in the same
stack, followed by the numbers. Spare chunks form a list: each begins with the distance from the
chunk after it to the next spare one. This is zero at first, so that chunks take no memory until
they are used. `tops`: int32[stacks + 1, 2]: the top chunk of each stack and how many numbers it
has; the last row has the first spare chunk. Loops take the two arrays as separate arguments: in a
tuple, every access would cost an atomic operation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.records import Int32s, Int64s, zeros
from rudder.training.compiled import compiled, inlined

CHUNK = 64
NONE = -1
_TOP, _FILL = 0, 1
_BELOW, _FIRST = 0, 1
_IN_CHUNK = CHUNK - _FIRST

Chunks = NDArray[np.int32]


@dataclass(frozen=True)
class Stacks:
    """The arrays of some stacks."""

    chunks: Chunks
    tops: Int32s

    @property
    def num_bytes(self) -> int:
        """Memory of both."""
        return self.chunks.nbytes + self.tops.nbytes


def make_stacks(count: int, *, room: int) -> Stacks:
    """`count` empty stacks, with room for `room` numbers in all."""
    num_chunks = min(room // _IN_CHUNK + count, room) + 1
    shape = (num_chunks, CHUNK)
    chunks: Chunks = zeros(num_chunks * CHUNK, np.dtype(np.int32)).reshape(shape)
    tops = np.zeros((count + 1, 2), dtype=np.int32)
    tops[:-1, _TOP] = NONE
    return Stacks(chunks, tops)


@inlined
def is_empty(tops: Int32s, stack: int) -> bool:
    """Whether a stack holds nothing."""
    none: bool = tops[stack, _TOP] == NONE
    return none


@inlined
def push(chunks: Chunks, tops: Int32s, stack: int, number: int) -> None:
    """Put a number on top; there must be room."""
    top = int(tops[stack, _TOP])
    fill = int(tops[stack, _FILL])
    if top == NONE or fill == _IN_CHUNK:
        chunk = int(tops[-1, _TOP])
        tops[-1, _TOP] = chunk + 1 + chunks[chunk, _BELOW]
        chunks[chunk, _BELOW] = top
        tops[stack, _TOP] = chunk
        top = chunk
        fill = 0
    chunks[top, _FIRST + fill] = number
    tops[stack, _FILL] = fill + 1


@inlined
def pop(chunks: Chunks, tops: Int32s, stack: int) -> int:
    """Take the number on top; there must be one."""
    top = int(tops[stack, _TOP])
    fill = int(tops[stack, _FILL]) - 1
    number = int(chunks[top, _FIRST + fill])
    if fill == 0:
        below = int(chunks[top, _BELOW])
        chunks[top, _BELOW] = tops[-1, _TOP] - top - 1
        tops[-1, _TOP] = top
        tops[stack, _TOP] = below
        fill = _IN_CHUNK
    tops[stack, _FILL] = fill
    return number


@inlined
def soon(chunks: Chunks, tops: Int32s, stack: int, ahead: int) -> int:
    """The number `ahead` places below the top of a non-empty stack, or the lowest of its chunk."""
    place = max(int(tops[stack, _FILL]) - 1 - ahead, 0)
    return int(chunks[int(tops[stack, _TOP]), _FIRST + place])


@compiled
def drain(chunks: Chunks, tops: Int32s, found: Int64s) -> None:
    """Take all numbers, lowest stack first; found: int64[as many as there are]."""
    count = 0
    for stack in range(tops.shape[0] - 1):
        while not is_empty(tops, stack):
            found[count] = pop(chunks, tops, stack)
            count += 1


@compiled
def best_first(ranks: Int64s, top: int, found: Int64s) -> None:
    """Fill found with positions in `ranks`, the highest rank first, equals in order.

    ranks, found: int64[n]; top: no rank is higher. A counting sort.
    """
    starts = np.zeros(top + 2, dtype=np.int64)
    for j in range(ranks.shape[0]):
        starts[top - ranks[j] + 1] += 1
    for k in range(top + 1):
        starts[k + 1] += starts[k]
    for j in range(ranks.shape[0]):
        k = top - ranks[j]
        found[starts[k]] = j
        starts[k] += 1
