"""Ranks of worth of the lookahead policy, and their order; see lookahead_kernels.py."""

from __future__ import annotations

import math

import numpy as np

from rudder.training.buffer.records import Int64s
from rudder.training.compiled import compiled, inlined

HEAT_RANKS = 352
_RANKS_PER_OCTAVE = 8.0
_LOWEST_OCTAVE = -20.0
HIGHEST_HEAT = 2.0 ** (_LOWEST_OCTAVE + HEAT_RANKS / _RANKS_PER_OCTAVE)
"""Rows hotter than this are not told apart."""


@inlined
def heat_rank(heat: np.float32) -> int:
    """Rank of a row whose next use is unknown."""
    if heat <= 1e-6:
        return 0
    if heat >= HIGHEST_HEAT:
        return HEAT_RANKS - 1
    return max(0, int((math.log2(heat) - _LOWEST_OCTAVE) * _RANKS_PER_OCTAVE))


@inlined
def order_of(rank: int, batch: int, ring: int) -> int:
    """Worth of a rank: heat ranks first, then known next uses, the furthest first."""
    if rank < HEAT_RANKS:
        return rank
    ahead = (rank - HEAT_RANKS - batch) % ring
    return HEAT_RANKS + ring - 1 - ahead


@inlined
def rank_of_order(order: int, batch: int, ring: int) -> int:
    """Inverse of `order_of`."""
    if order < HEAT_RANKS:
        return order
    return HEAT_RANKS + (batch + HEAT_RANKS + ring - 1 - order) % ring


@compiled
def best_first(ranks: Int64s, batch: int, ring: int) -> Int64s:
    """Positions in `ranks`, the most worth first (counting sort, equals in their order)."""
    top = HEAT_RANKS + ring - 1
    starts = np.zeros(top + 2, dtype=np.int64)
    for j in range(ranks.shape[0]):
        starts[top - order_of(ranks[j], batch, ring) + 1] += 1
    for k in range(top + 1):
        starts[k + 1] += starts[k]
    found = np.empty(ranks.shape[0], dtype=np.int64)
    for j in range(ranks.shape[0]):
        k = top - order_of(ranks[j], batch, ring)
        found[starts[k]] = j
        starts[k] += 1
    return found
