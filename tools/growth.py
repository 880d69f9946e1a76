"""A buffer that grows, replayed: from what it holds now to when its trial is judged.

The new slots must be filled first, and the batches that fill them use nodes that were not used
before. A full buffer replayed over the last batches would tell neither: in the first epoch most of
what they miss is new, and a buffer for nearly all nodes takes hundreds of batches to fill. So the
growth is replayed over batches to come, drawn from what is known of each node; and, the more the
longer the run, over the last batches, as if the buffer had grown before them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rudder.tools.known_uses import KnownUses
from rudder.tools.lookahead_replay import lookahead_misses
from rudder.tools.past_uses import HEAT_GROWTH, Heat
from rudder.tools.popularity import Popularity, draw_batches
from rudder.tools.sampled import SampledTrace
from rudder.tools.settling import MAX_SETTLING_STEPS
from rudder.tools.share import Share
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings

JUDGED_STEPS = 48
"""Over so many steps rows are counted, once the buffer has settled."""
_GROWTH_ERROR = 0.04
"""Of estimates beside replays of what then came, in recorded runs."""
_WARM_BATCHES = 64
_FEW_BATCHES, _MANY_BATCHES = 64, 256
"""Between them the last batches come to count instead of drawn ones."""
_SEEN_AHEAD = 64
_MOST_NODES = 8
"""Times the nodes seen: no more of those that were not are thought of."""


@dataclass(frozen=True)
class Growth:
    """uses: of the last batches as they were, num_warm, and of drawn ones; widths: int64, sampled
    nodes of each drawn batch."""

    trace: SampledTrace
    uses: KnownUses
    num_warm: int
    widths: IntArray

    @classmethod
    def of(cls, trace: SampledTrace, *, num_nodes: int) -> Growth:
        """num_nodes: that the sample would hold if all of them were used.

        The same trace leads to the same batches.
        """
        random = np.random.default_rng(trace.first_step + trace.num_batches)
        num_nodes = min(max(num_nodes, trace.num_nodes), _MOST_NODES * trace.num_nodes)
        end = trace.bounds[trace.num_batches]
        seen = np.bincount(trace.nodes[:end], minlength=num_nodes)
        popularity = Popularity.of(seen, num_batches=trace.num_batches)
        rates = popularity.rates(seen, num_batches=trace.num_batches, random=random)
        count = MAX_SETTLING_STEPS + JUDGED_STEPS + _SEEN_AHEAD
        nodes, bounds = draw_batches(rates, num_batches=count, random=random)
        num_warm = min(_WARM_BATCHES, trace.num_batches)
        first = trace.num_batches - num_warm
        warm = trace.nodes[trace.bounds[first] : end]
        warm_bounds = trace.bounds[first : trace.num_batches] - trace.bounds[first]
        uses = KnownUses.of(
            np.concatenate([warm, nodes]),
            np.concatenate([warm_bounds, bounds + len(warm)]),
            heat=_heat_after(trace, first, num_nodes),
        )
        return cls(trace, uses, num_warm, np.diff(bounds)[: count - _SEEN_AHEAD])

    def share(self, settings: BufferSettings, *, held_rows: int, settling_steps: int) -> Share:
        """What is fetched while the trial is judged.

        settings: after the change, with the capacity in sampled rows; held_rows: the one before,
        as well.
        """
        counted = slice(settling_steps, settling_steps + JUDGED_STEPS)
        rows = self._drawn_rows(settings, held_rows)
        drawn = Share.of(rows[counted], self.widths[counted])
        found, trace = drawn, self.trace
        at = trace.num_batches - settling_steps - JUDGED_STEPS
        if at >= 0:
            rows = trace.grown_rows(settings, held_rows=held_rows, at=at)[-JUDGED_STEPS:]
            seen = Share.of(rows, trace.widths[-JUDGED_STEPS:])
            weight = (trace.num_batches - _FEW_BATCHES) / (_MANY_BATCHES - _FEW_BATCHES)
            found = drawn.mixed(seen, weight=min(max(weight, 0.0), 1.0))
        return Share(found.mid, math.hypot(found.error, _GROWTH_ERROR * found.mid))

    def _drawn_rows(self, settings: BufferSettings, held_rows: int) -> IntArray:
        """int64[drawn batches]: sampled rows that each of them fetches."""
        misses = lookahead_misses(
            self.uses,
            num_planned=self.num_warm + len(self.widths),
            settings=settings,
            held_rows=held_rows,
            grows_at=self.num_warm,
        )
        return misses[self.num_warm :]


def _heat_after(trace: SampledTrace, batch: int, num_nodes: int) -> Heat:
    """Of all uses before a batch of the trace."""
    weights = HEAT_GROWTH ** np.arange(batch)
    uses = trace.nodes[: trace.bounds[batch]]
    sums = np.zeros(num_nodes)
    sums[: trace.num_nodes] = trace.heat.of_nodes
    sums += np.bincount(uses, np.repeat(weights, trace.widths[:batch]), minlength=num_nodes)
    unit = HEAT_GROWTH**batch
    total = (trace.heat.total + float(weights.sum())) / unit
    return Heat((sums / unit).astype(np.float32), total)
