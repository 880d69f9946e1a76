"""The loader thread's work: sample ahead, plan, pull and assemble, always doing what can be done.

Batches pass four stages:

    sampling -> window (observed by the policy) -> pulling (planned, rows asked for) -> handed over

They are drawn in any order and do all else in order. Rows are asked for as soon as a batch is
planned, and put together when all of them are here; in between the next batches are drawn.
Nothing waits while there is work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from rudder.training.buffer.policy import IntArray
from rudder.training.loading.access_sample import NO_SAMPLE, AccessSample
from rudder.training.loading.batch import Batch, InFlightBatch, StepAccounts
from rudder.training.loading.requests import PendingRequests
from rudder.training.loading.row_stages import EdgeStage, ReadRows, RowStage
from rudder.training.loading.sampling_stage import SamplingStage
from rudder.training.loading.seed_order import SeedBatch
from rudder.training.loading.tensors import GraphTensor
from rudder.training.metrics import RowCounts, Seconds

_DROP_TIMEOUT_S = 60.0
_IDLE_ROWS = 2048
"""Rows of an eager fetch while the loader is idle: what a batch may have to wait for."""
_IDLE_FETCHES = 2
"""Such fetches at once before the first batch, so that the link need not wait between two."""

BeginBatch = Callable[[int, SeedBatch], InFlightBatch]
"""Makes the batch of a number, before it is sampled; see `Seeds.begin`."""


@dataclass(frozen=True)
class QueueLimits:
    """How far stages may run ahead: batches drawn before the window has room for them, batches
    with rows under way, and batches that wait ready."""

    drawn: int = 4
    pulling: int = 4
    ready: int = 2

    @property
    def assembled(self) -> int:
        """Batches whose rows are in memory at once: ready, and with the trainer."""
        return self.ready + 3


class Pipeline:
    """All batches of one loader between their seeds and the trainer. Belongs to one thread."""

    def __init__(
        self,
        *,
        pending: PendingRequests,
        sampling: SamplingStage,
        nodes: RowStage,
        edges: EdgeStage | None = None,
        limits: QueueLimits,
        begin: BeginBatch,
        sample: AccessSample = NO_SAMPLE,
        first_number: int = 0,
    ) -> None:
        """edges: None where no tensor of edges is delivered; first_number: of the first batch."""
        self._pending = pending
        self._sampling = sampling
        self.policy = nodes.policy
        self._nodes = nodes
        self._stages: tuple[RowStage, ...] = (nodes,) if edges is None else (nodes, edges)
        self._limits = limits
        self._begin = begin
        self._sample = sample
        self._seeds: deque[SeedBatch] = deque()
        self._window: deque[InFlightBatch] = deque()
        self._pulling: deque[InFlightBatch] = deque()
        self._first_number = self._next_number = first_number
        self._planned_since_start = 0
        self._fetched_idle = RowCounts()

    @property
    def next_planned(self) -> int:
        """Number of the batch that is planned next: a change holds from there on."""
        return self._next_number - len(self._sampling) - len(self._window)

    @property
    def is_empty(self) -> bool:
        """Whether every batch has been handed over."""
        return not (self._seeds or self._sampling or self._window or self._pulling)

    @property
    def has_open_questions(self) -> bool:
        """Whether answers are still to come."""
        return self._pending.num_open > 0

    @property
    def waiting_bytes(self) -> int:
        """Memory of batches under way: structure, and assembled rows."""
        drawn = sum(in_flight.num_bytes for in_flight in self._sampling.in_flight_batches)
        observed = sum(in_flight.observed_bytes for in_flight in (*self._window, *self._pulling))
        return drawn + observed + sum(stage.pool.num_bytes for stage in self._stages)

    @property
    def map_bytes(self) -> int:
        """Memory of the policies' own state."""
        return sum(stage.policy.num_bytes for stage in self._stages)

    @property
    def buffer_rows(self) -> int:
        """Rows of nodes that the buffer has memory for."""
        return self._nodes.assembly.buffer_rows

    def buffered_nodes(self) -> IntArray:
        """int64[n]: global ids of the nodes whose rows are buffered; any thread may ask."""
        return self._nodes.view.to_global(self._nodes.assembly.buffered)

    def add(self, batches: Iterable[SeedBatch]) -> None:
        """Queue batches of seeds."""
        self._seeds.extend(batches)

    def work(self, *, room: bool, hand_over: Callable[[Batch], None]) -> bool:
        """Do one piece of work, the most urgent first; False if all wait for answers or room."""
        if self._pulling and self._pulling[0].is_fetch and self._pulling[0].is_answered:
            self._store(self._pulling.popleft())
        elif room and self._pulling and self._pulling[0].is_answered:
            in_flight = self._pulling.popleft()
            if self._may_plan():
                self._plan(self._window.popleft())
            hand_over(self._assemble(in_flight))
        elif self._may_plan():
            self._plan(self._window.popleft())
        elif self._may_observe():
            self._observe(self._sampling.in_flight_batches.popleft())
        elif self._sampling.advance():
            pass
        elif self._may_sample():
            in_flight = self._begin(self._next_number, self._seeds.popleft())
            self._sampling.start(in_flight)
            self._next_number += 1
        else:
            return False
        return True

    def fetch_idle(self) -> bool:
        """Ask for rows that are wanted while nothing else is; False if there are none.

        Before the first batch, or while there are batches to plan, which count these rows.
        """
        is_before_all = self._next_number == self._first_number and not self._seeds
        if not self.policy.wants_rows:
            return False
        if is_before_all and len(self._pulling) >= _IDLE_FETCHES:
            return False
        if not is_before_all and (self.has_open_questions or not self._has_batches_to_plan):
            return False
        in_flight = InFlightBatch.fetch(self.policy.fetch(_IDLE_ROWS))
        self._ask_for_rows(in_flight)
        return True

    def receive(self, timeout_ms: int, *, give_up_s: float) -> None:
        """Wait for one answer; raises RunError when there has been none for `give_up_s`."""
        started, worked = time.perf_counter(), time.thread_time()
        self._pending.receive(timeout_ms)
        if self._pulling:
            self._pulling[0].pull_seconds += time.perf_counter() - started
            self._pulling[0].pull_work_seconds += time.thread_time() - worked
        self._pending.check(timeout_s=give_up_s)

    def drop_all(self) -> None:
        """Give up what has not been handed over; the buffer stays sound."""
        self._seeds.clear()
        while self._pending.num_open:
            self.receive(1000, give_up_s=_DROP_TIMEOUT_S)
        for in_flight in self._pulling:
            if in_flight.is_fetch:
                self._store(in_flight)
                continue
            for stage, lookup in zip(self._stages, in_flight.lookups, strict=True):
                stage.assembly.store_only(lookup)
        for in_flight in self._window:
            for stage, lookup in zip(self._stages, in_flight.lookups, strict=True):
                stage.policy.skip(lookup.remote_numbers)
        self._next_number -= len(self._sampling)
        for queue in (self._pulling, self._window, self._sampling.in_flight_batches):
            queue.clear()
        self._planned_since_start = 0

    def refresh(self, tensor: GraphTensor, read: ReadRows) -> None:
        """Read the rows of a tensor that was written again: buffered ones, and those on their way.

        No question may be open.
        """
        for number, stage in enumerate(self._stages):
            under_way = [
                each.lookups[number] for each in self._pulling if number < len(each.lookups)
            ]
            stage.refresh(tensor, read, under_way)

    @property
    def _has_batches_to_plan(self) -> bool:
        return bool(self._seeds or self._sampling or self._window)

    def _may_sample(self) -> bool:
        ahead = len(self._sampling) + len(self._window)
        wanted = self.policy.settings.lookahead_batches + self._limits.drawn
        return bool(self._seeds) and ahead <= wanted and self._sampling.may_start

    def _may_observe(self) -> bool:
        wanted = self.policy.settings.lookahead_batches
        return self._sampling.has_drawn and len(self._window) <= wanted

    def _may_plan(self) -> bool:
        """Plan with a full window; at the start with what there is, growing by one a batch."""
        num_pulling = sum(not each.is_fetch for each in self._pulling)
        if not self._window or num_pulling >= self._limits.pulling:
            return False
        wanted = min(self.policy.settings.lookahead_batches, self._planned_since_start)
        more_to_come = bool(self._seeds or self._sampling)
        return len(self._window) > wanted or not more_to_come

    def _observe(self, in_flight: InFlightBatch) -> None:
        started = time.perf_counter()
        for stage in self._stages:
            stage.observe(in_flight)
        in_flight.observed_bytes = in_flight.num_bytes
        self._window.append(in_flight)
        in_flight.sample_seconds += time.perf_counter() - started

    def _plan(self, in_flight: InFlightBatch) -> None:
        self._planned_since_start += 1
        for stage, lookup in zip(self._stages, in_flight.lookups, strict=True):
            stage.plan(lookup)
        self._ask_for_rows(in_flight)

    def _ask_for_rows(self, in_flight: InFlightBatch) -> None:
        """An eager fetch has a look-up of nodes only."""
        for stage, lookup in zip(self._stages, in_flight.lookups, strict=False):
            stage.ask(in_flight, lookup)
        self._pulling.append(in_flight)

    def _store(self, in_flight: InFlightBatch) -> None:
        """Put an eager fetch into the buffer; the next batch counts its rows."""
        (lookup,) = in_flight.lookups
        self._nodes.assembly.store_only(lookup)
        self._fetched_idle += self._nodes.count(lookup, is_idle=True)

    def _assemble(self, in_flight: InFlightBatch) -> Batch:
        started = time.perf_counter()
        rows, *of_edges = (
            stage.count(lookup)
            for stage, lookup in zip(self._stages, in_flight.lookups, strict=True)
        )
        accounts = StepAccounts(
            rows=self._fetched_idle + rows,
            edge_rows=of_edges[0] if of_edges else RowCounts(),
            seconds=Seconds(
                sample=in_flight.sample_seconds,
                pull=in_flight.pull_seconds,
                pull_work=in_flight.pull_work_seconds,
            ),
            pulls=tuple(in_flight.pulls),
            accesses=self._sample.choose(in_flight.lookups[0].remote_numbers),
        )
        self._fetched_idle = RowCounts()
        batch = Batch(
            number=in_flight.number,
            input_nodes=torch.from_numpy(in_flight.nodes),
            seeds=torch.from_numpy(in_flight.seeds),
            blocks=in_flight.make_blocks(),
            accounts=accounts,
            **in_flight.make_pair_graphs(),
        )
        for stage, lookup in zip(self._stages, in_flight.lookups, strict=True):
            stage.assemble(batch, lookup)
        accounts.seconds += Seconds(assemble=time.perf_counter() - started)
        return batch
