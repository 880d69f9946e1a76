"""Batches whose layers are being drawn: several at once, so that round trips overlap."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import dgl
import torch

from rudder.training.errors import ConfigError
from rudder.training.loading.batch import InFlightBatch, WholeSample
from rudder.training.loading.requests import PendingRequests
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import Edges, LayerDraw, NeighborSampling, draw_key

MAX_AT_ONCE = 6
"""Batches whose layers may be asked for at once: enough to hide the round trips of a slow link."""

SampleWhole = Callable[[InFlightBatch], WholeSample]
"""Another sampler than ours: draws a whole batch, and waits for DGL's RPC itself."""


class SamplingStage:
    """Draws batches layer by layer; they may finish in any order, and leave in order."""

    def __init__(
        self,
        pending: PendingRequests,
        sampling: NeighborSampling,
        *,
        fanouts: Sequence[int],
        sample_whole: SampleWhole | None,
        seeds_use_rpc: bool = False,
    ) -> None:
        """seeds_use_rpc: whether to begin a batch is to wait for DGL's RPC, too."""
        self._pending = pending
        self._sampling = sampling
        self._fanouts = tuple(reversed(fanouts))
        self._sample_whole = sample_whole
        self._needs_rpc = seeds_use_rpc or sample_whole is not None
        self.in_flight_batches: deque[InFlightBatch] = deque()

    def __len__(self) -> int:
        """Batches in this stage, drawn or not."""
        return len(self.in_flight_batches)

    @property
    def may_start(self) -> bool:
        """Whether another batch may be begun now."""
        if self._needs_rpc and self._pending.num_open:
            return False  # DGL would take our answers for its own
        return (
            sum(not self._is_drawn(in_flight) for in_flight in self.in_flight_batches) < MAX_AT_ONCE
        )

    @property
    def has_drawn(self) -> bool:
        """Whether the oldest batch is drawn."""
        return bool(self.in_flight_batches) and self._is_drawn(self.in_flight_batches[0])

    def start(self, in_flight: InFlightBatch) -> None:
        """Begin a batch."""
        started = time.perf_counter()
        self.in_flight_batches.append(in_flight)
        if self._sample_whole is None:
            self._begin_layer(in_flight, in_flight.seeds)
        else:
            in_flight.whole = self._sample_whole(in_flight)
        in_flight.sample_seconds += time.perf_counter() - started

    def advance(self) -> bool:
        """Finish one layer whose answers are here; False if there is none."""
        started = time.perf_counter()
        for in_flight in self.in_flight_batches:
            if in_flight.half is not None and in_flight.is_answered:
                self._finish_layer(in_flight)
                in_flight.sample_seconds += time.perf_counter() - started
                return True
        return False

    def _is_drawn(self, in_flight: InFlightBatch) -> bool:
        return in_flight.whole is not None or len(in_flight.layers) == len(self._fanouts)

    def _begin_layer(self, in_flight: InFlightBatch, frontier: IntArray) -> None:
        layer = len(in_flight.layers)
        draw = LayerDraw(fanout=self._fanouts[layer], key=draw_key(in_flight.draw_key, layer))
        in_flight.half = self._sampling.begin(frontier, draw)
        for question in in_flight.half.questions:
            self._pending.sample(in_flight, question.owner, question.nodes, draw)
        if not in_flight.half.questions:
            self._finish_layer(in_flight)

    def _finish_layer(self, in_flight: InFlightBatch) -> None:
        half, in_flight.half = in_flight.half, None
        assert half is not None
        answers = [answer for answer in in_flight.take_answers() if isinstance(answer, Edges)]
        in_flight.layers.append(self._sampling.finish(half, answers, in_flight.edge_filter))
        if len(in_flight.layers) < len(self._fanouts):
            self._begin_layer(in_flight, in_flight.nodes)


_UNIFORM = (dgl.dataloading.NeighborSampler, dgl.dataloading.MultiLayerFullNeighborSampler)


def uniform_fanouts(sampler: Any) -> tuple[int, ...] | None:
    """Fan-outs, input layer first, of a uniform sampler without replacement; None for others."""
    if (
        type(sampler) not in _UNIFORM
        or sampler.edge_dir != "in"
        or sampler.prob is not None
        or sampler.replace
        or not all(isinstance(fanout, int) for fanout in sampler.fanouts)
    ):
        return None
    return tuple(sampler.fanouts)


def sample_whole(sampler: Any, graph: Any) -> SampleWhole:
    """A way to call any `dgl.dataloading` block sampler on a DistGraph; raises ConfigError."""
    if not callable(getattr(sampler, "sample", None)):
        raise ConfigError.for_field(
            "sampler", value=sampler, allowed="a block sampler of dgl.dataloading",
            remedy="pass dgl.dataloading.NeighborSampler([...]), or a sampler with its `sample`",
        )  # fmt: skip

    def sample(in_flight: InFlightBatch) -> WholeSample:
        seeds, excluded = torch.from_numpy(in_flight.seeds), in_flight.edge_filter
        ids = excluded and excluded.ids
        more = () if ids is None else (torch.from_numpy(ids),)
        input_nodes, _, blocks = sampler.sample(graph, seeds, *more)
        return WholeSample(nodes=input_nodes.numpy(), blocks=tuple(blocks))

    return sample
