"""Batches whose layers are being drawn: several at once, so that round trips overlap."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from rudder.training.loading.batch import Journey, WholeSample
from rudder.training.loading.desk import Desk
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import Edges, NeighborSampling

MAX_AT_ONCE = 6
"""Batches whose layers may be asked for at once: enough to hide the round trips of a slow link."""

SampleWhole = Callable[[IntArray], WholeSample]
"""Somebody else's sampler: seeds in, a whole batch out; it uses DGL's RPC and waits for it."""


class SamplingStage:
    """Draws batches layer by layer; they may finish in any order, and leave in order."""

    def __init__(
        self,
        desk: Desk,
        sampling: NeighborSampling,
        *,
        fanouts: Sequence[int],
        sample_whole: SampleWhole | None,
    ) -> None:
        self._desk = desk
        self._sampling = sampling
        self._fanouts = tuple(reversed(fanouts))
        self._sample_whole = sample_whole
        self.journeys: deque[Journey] = deque()

    def __len__(self) -> int:
        """Batches in this stage, drawn or not."""
        return len(self.journeys)

    @property
    def may_start(self) -> bool:
        """Whether another batch may be begun now."""
        if self._sample_whole is not None:
            return not self._desk.num_open  # it would take our answers for its own
        return sum(not self._is_drawn(journey) for journey in self.journeys) < MAX_AT_ONCE

    @property
    def has_drawn(self) -> bool:
        """Whether the oldest batch is drawn."""
        return bool(self.journeys) and self._is_drawn(self.journeys[0])

    def start(self, journey: Journey) -> None:
        """Begin a batch."""
        started = time.perf_counter()
        self.journeys.append(journey)
        if self._sample_whole is None:
            self._begin_layer(journey, journey.seeds)
        else:
            journey.whole = self._sample_whole(journey.seeds)
        journey.sample_seconds += time.perf_counter() - started

    def advance(self) -> bool:
        """Finish one layer whose answers are here; False if there is none."""
        started = time.perf_counter()
        for journey in self.journeys:
            if journey.half is not None and journey.is_answered:
                self._finish_layer(journey)
                journey.sample_seconds += time.perf_counter() - started
                return True
        return False

    def _is_drawn(self, journey: Journey) -> bool:
        return journey.whole is not None or len(journey.layers) == len(self._fanouts)

    def _begin_layer(self, journey: Journey, frontier: IntArray) -> None:
        fanout = self._fanouts[len(journey.layers)]
        journey.half = self._sampling.begin(frontier, fanout)
        for question in journey.half.questions:
            self._desk.sample(journey, question.owner, question.nodes, fanout)
        if not journey.half.questions:
            self._finish_layer(journey)

    def _finish_layer(self, journey: Journey) -> None:
        half, journey.half = journey.half, None
        assert half is not None
        answers = [answer for answer in journey.take_answers() if isinstance(answer, Edges)]
        journey.layers.append(self._sampling.finish(half, answers))
        if len(journey.layers) < len(self._fanouts):
            self._begin_layer(journey, journey.nodes)
