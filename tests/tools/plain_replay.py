"""The lookahead policy's choice over a whole trace, as plainly as it can be said."""

from __future__ import annotations

import math

import numpy as np

from rudder.tools.constants import LOOKAHEAD_GROWTH
from rudder.tools.estimate.past_uses import HEAT_GROWTH, Heat
from rudder.training.buffer.policies.lookahead_kernels import HEAT_RANKS, heat_rank
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings


class PlainReplay:
    """Every worth is found anew for every batch; `misses` are those of each."""

    def __init__(
        self, batches: list[IntArray], settings: BufferSettings, *, heat: Heat, hottest: list[int]
    ) -> None:
        """hottest: nodes with heat, in the order in which they fill the buffer at first."""
        self._batches = [batch.tolist() for batch in batches]
        self._settings = settings
        self._heat, self._total = heat.of_nodes.copy(), heat.total
        self._weight, self._observed = 1.0, 0
        self._slots = hottest[: settings.capacity_rows]
        self.misses = [self._plan(number) for number in range(len(batches))]

    def _plan(self, number: int) -> int:
        ahead = min(self._settings.lookahead_batches, LOOKAHEAD_GROWTH * number)
        while self._observed < min(number + ahead + 1, len(self._batches)):
            for node in self._batches[self._observed]:
                self._heat[node] += np.float32(self._weight)
            self._total += self._weight
            self._weight *= HEAT_GROWTH
            self._observed += 1
        missed = [node for node in self._batches[number] if node not in self._slots]
        self._admit(missed, number)
        return len(missed)

    def _worth(self, node: int, number: int) -> int:
        for later in range(number + 1, self._observed):
            if node in self._batches[later]:
                return HEAT_RANKS + len(self._batches) - later
        return int(heat_rank(self._heat[node]))

    def _may_go(self, node: int, worth: int) -> bool:
        threshold = self._settings.eviction_threshold
        if threshold >= 1:
            return True
        kept = np.float32(threshold * self._total)
        if worth < HEAT_RANKS:
            return worth < int(heat_rank(kept))
        return bool(self._heat[node] < kept)

    def _admit(self, missed: list[int], number: int) -> None:
        """The newcomer worth most first, each for a free slot, or the row worth least."""
        free = min(self._settings.capacity_rows - len(self._slots), len(missed))
        worths = [self._worth(node, number) for node in missed]
        rows = [(self._worth(node, number), slot) for slot, node in enumerate(self._slots)]
        victims = sorted(row for row in rows if self._may_go(self._slots[row[1]], row[0]))
        best_first = sorted(range(len(missed)), key=lambda place: (-worths[place], place))
        for_victims = zip(best_first[free:], victims, strict=False)
        taken = [(place, slot) for place, (worth, slot) in for_victims if worth < worths[place]]
        slots = sorted(slot for _, slot in taken)
        chosen = sorted([*best_first[:free], *(place for place, _ in taken)])
        for place, slot in zip(chosen, [*slots, *([math.inf] * free)], strict=True):
            if math.isinf(slot):
                self._slots.append(missed[place])
            else:
                self._slots[int(slot)] = missed[place]
