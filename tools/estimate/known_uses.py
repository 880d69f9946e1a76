"""What replays of one sampled trace share, whatever the settings: found once, not per replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rudder.tools.estimate.past_uses import HEAT_GROWTH, Heat
from rudder.training.buffer.policy import IntArray
from rudder.training.compiled import compiled, inlined
from rudder.training.simulate.replay import next_uses

Int32s = NDArray[np.int32]
Places = NDArray[np.uint32]
"""Unsigned: an index that cannot be negative is looked up twice as fast by a compiled loop."""
Heats = NDArray[np.float32]
HEAT_RANKS = 704
"""How many different worths heat is told apart by."""
_LOWEST_BITS = (127 - 20) << 4
"""The sixteenths of an octave of 2 ** -20, as a float32 writes them."""


@dataclass(frozen=True)
class KnownUses:
    """Each access's future and past.

    nodes: uint32[accesses] node numbers of all batches, one after the other; bounds:
    int64[batches + 1]; next_use: int32[accesses], as of simulate.opt.next_uses; rank_after:
    uint32[accesses], what the node is worth by its heat with this use;
    hottest: uint32[n], the nodes used before the trace, hottest first; hottest_ranks:
    uint32[n], what they are worth by it; heat: of all nodes before.
    """

    nodes: Places
    bounds: IntArray
    next_use: Int32s
    rank_after: Places
    hottest: Places
    hottest_ranks: Places
    heat: Heat

    @classmethod
    def of(cls, nodes: IntArray, bounds: IntArray, *, heat: Heat) -> KnownUses:
        """nodes: numbers below len(heat.of_nodes). Not for more than 40,000 batches: heat only
        grows."""
        hottest, hottest_ranks = _hottest(heat.of_nodes)
        return cls(
            nodes=nodes.astype(np.uint32),
            bounds=bounds,
            next_use=next_uses(nodes, bounds, len(heat.of_nodes))[0],
            rank_after=_ranks(nodes, bounds, heat.of_nodes.copy()),
            hottest=hottest,
            hottest_ranks=hottest_ranks,
            heat=heat,
        )


@inlined
def _rank(heat: np.float32) -> int:
    """Worth beyond the window: heat by sixteenths of an octave, as ranks.py of the policy."""
    bits = int(np.float32(heat).view(np.int32)) >> 19
    return min(max(bits - _LOWEST_BITS, 0), HEAT_RANKS - 1)


@compiled
def heat_rank(heat: np.float32) -> int:
    """Worth by heat alone, 0 to HEAT_RANKS - 1."""
    return _rank(heat)


@compiled
def _ranks(nodes: IntArray, bounds: IntArray, heat: Heats) -> Places:
    ranks = np.empty(nodes.shape[0], dtype=np.uint32)
    weight = 1.0
    for batch in range(bounds.shape[0] - 1):
        for i in range(bounds[batch], bounds[batch + 1]):
            heat[nodes[i]] += np.float32(weight)
            ranks[i] = _rank(heat[nodes[i]])
        weight *= HEAT_GROWTH
    return ranks


@compiled
def _hottest(heat: Heats) -> tuple[Places, Places]:
    """Nodes with any heat, the hottest first, and their ranks."""
    order = np.argsort(-heat)
    count = int((heat > 0).sum())
    nodes = np.empty(count, dtype=np.uint32)
    ranks = np.empty(count, dtype=np.uint32)
    for place in range(count):
        nodes[place] = order[place]
        ranks[place] = _rank(heat[order[place]])
    return nodes, ranks
