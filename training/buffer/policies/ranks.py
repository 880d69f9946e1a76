"""The ranks by which the lookahead policy orders rows, from 0 (worth least) on.

    0 .. HEAT_RANKS - 1      next use unknown: by heat, 16 ranks per octave
    HEAT_RANKS .. + ring - 1 next use known, the furthest first

`ring` is a power of two, larger than the number of batches in the window. The rows of one rank are
in one stack (stacks.py). The number of the stack of a known next use does not change with time:

    HEAT_RANKS + batch % ring
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.records import Int64s
from rudder.training.compiled import compiled, inlined

HEAT_RANKS = 704
_LOWEST_BITS = (127 - 20) << 4
"""2 ** -20 as the upper bits of a float32: its exponent and four bits of its mantissa."""
HIGHEST_HEAT = 2.0 ** (-20 + HEAT_RANKS / 16)
"""All rows hotter than this have the same rank."""


@inlined
def heat_rank(heat: np.float32) -> int:
    """Rank of a row whose next use is unknown: exponent and four mantissa bits of its heat."""
    bits = int(np.float32(heat).view(np.int32)) >> 19
    return min(max(bits - _LOWEST_BITS, 0), HEAT_RANKS - 1)


@inlined
def rank_of(first_use: int, heat: np.float32, batch: int, ring: int) -> int:
    """Rank of a row; first_use: its next use, 0: unknown; batch: the one that is planned."""
    if first_use == 0:
        return heat_rank(heat)
    return HEAT_RANKS + ring - 1 - ((first_use - batch) & (ring - 1))


@inlined
def stack_of(rank: int, batch: int, ring: int) -> int:
    """Number of the stack for rows of this rank."""
    if rank < HEAT_RANKS:
        return rank
    return HEAT_RANKS + ((batch + HEAT_RANKS + ring - 1 - rank) & (ring - 1))


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
