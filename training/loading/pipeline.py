"""The loader thread's work: sample ahead, plan, pull and assemble, always doing what can be done.

Batches pass four stages in order. `sampling` may answer out of order, all else is in order:

    sampling -> window (observed by the policy) -> pulling (planned, rows asked for) -> done

A pull is asked for as soon as its batch is planned, and assembled when all its rows are here; in
between the next batches are sampled. Nothing waits while there is work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.rows import MemoryPool
from rudder.training.errors import RunError
from rudder.training.loading.accounts import Accounts
from rudder.training.loading.assembly import Assembly, Fetch
from rudder.training.loading.batch import Batch, Journey, WholeSample
from rudder.training.loading.tensors import NodeTensor
from rudder.training.metrics import Seconds
from rudder.training.partition_view import PartitionView
from rudder.training.sampling.neighbor import Edges, NeighborSampling
from rudder.training.wire.wire import Rows, Wire

MAX_SAMPLING = 6
"""Batches whose layers may be asked for at once: enough to hide the round trips of a slow link."""


SampleWhole = Callable[[IntArray], WholeSample]
"""Somebody else's sampler: seeds in, a whole batch out; it uses DGL's RPC and waits for it."""


@dataclass(frozen=True)
class Limits:
    """How far stages may run ahead: batches with rows under way, and batches that wait ready."""

    pulling: int = 3
    ready: int = 2


class Pipeline:
    """All batches of one loader between their seeds and the trainer. Belongs to one thread."""

    def __init__(
        self,
        *,
        view: PartitionView,
        wire: Wire,
        sampling: NeighborSampling,
        fanouts: Sequence[int],
        sample_whole: SampleWhole | None = None,
        policy: Policy,
        inputs: Sequence[NodeTensor],
        outputs: Sequence[NodeTensor],
        limits: Limits,
    ) -> None:
        self._view = view
        self._wire = wire
        self._sampling = sampling
        self._fanouts = tuple(reversed(fanouts))
        self._sample_whole = sample_whole
        self.policy = policy
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._limits = limits
        self._pool = MemoryPool(max_blocks=len(inputs) * (limits.ready + 3))
        self._assembly = Assembly(
            inputs, capacity=policy.settings.capacity_rows, first=view.first, pool=self._pool
        )
        self._accounts = Accounts(view, inputs, outputs)
        self._seeds: deque[IntArray] = deque()
        self._sampled: deque[Journey] = deque()
        self._window: deque[Journey] = deque()
        self._pulling: deque[Journey] = deque()
        self._asked: dict[int, Journey] = {}
        self._next_number = 0
        self._ramp = 0
        self._last_answer = time.monotonic()

    # -- what there is ------------------------------------------------------------------

    @property
    def next_planned(self) -> int:
        """Number of the batch that is planned next: a change holds from there on."""
        ahead = len(self._sampled) + len(self._window)
        return self._next_number - ahead

    @property
    def is_empty(self) -> bool:
        """Whether every batch has been handed out."""
        return not (self._seeds or self._sampled or self._window or self._pulling)

    @property
    def has_open_requests(self) -> bool:
        """Whether answers are still to come."""
        return self._wire.num_open > 0

    @property
    def waiting_bytes(self) -> int:
        """Memory of batches under way: structure, and assembled rows."""
        under_way = (*self._sampled, *self._window, *self._pulling)
        return sum(journey.num_bytes for journey in under_way) + self._pool.num_bytes

    @property
    def buffer_bytes(self) -> int:
        """Memory of the buffered rows."""
        return self._assembly.buffer_bytes

    def add(self, batches: Iterator[IntArray] | Sequence[IntArray]) -> None:
        """Queue batches of seeds (int64 global ids)."""
        self._seeds.extend(batches)

    # -- work ---------------------------------------------------------------------------

    def work(self, *, room: bool, hand_over: Callable[[Batch], None]) -> bool:
        """Do one piece of work, the most urgent first; False if all wait for answers or room."""
        if self._pulling and self._pulling[0].is_answered and room:
            hand_over(self._assemble(self._pulling.popleft()))
            return True
        if self._may_plan():
            self._plan(self._window.popleft())
            return True
        if self._sampled and self._is_sampled(self._sampled[0]):
            self._observe(self._sampled.popleft())
            return True
        return self._advance_sampling()

    def receive(self, timeout_ms: int) -> bool:
        """Wait for one answer and file it; False after the time is up."""
        started = time.perf_counter()
        answer = self._wire.receive(timeout_ms)
        waited = time.perf_counter() - started
        waiting = self._pulling[0] if self._pulling else None
        if waiting is not None:
            waiting.pull_seconds += waited
        if answer is None:
            return False
        self._last_answer = time.monotonic()
        ticket, content = answer
        self._asked.pop(ticket).answers[ticket] = content
        return True

    def check_answers(self, *, timeout_s: float) -> None:
        """Raise RunError when open requests have had no answer for so long."""
        if not self.has_open_requests:
            self._last_answer = time.monotonic()
        elif time.monotonic() - self._last_answer > timeout_s:
            owners = sorted({f.owner for j in self._pulling for f in j.fetches})
            raise RunError(
                f"no answer from the graph servers of partitions {owners or 'asked'}"
                f" for {timeout_s:.0f} s",
                remedy="look whether the servers on those hosts are alive, and at their logs",
            )

    def drop_all(self) -> None:
        """Give up what has not been handed out; the buffer stays sound."""
        self._seeds.clear()
        while self._wire.num_open:
            self.receive(1000)
            self.check_answers(timeout_s=60)
        for journey in self._pulling:
            assert journey.plan is not None
            self._assembly.store_only(journey.plan, self._fetched(journey))
        for journey in self._window:
            self.policy.skip(journey.remote_numbers)
        self._next_number -= len(self._sampled)
        for stage in (self._pulling, self._window, self._sampled):
            stage.clear()
        self._ramp = 0

    # -- stages -------------------------------------------------------------------------

    def _advance_sampling(self) -> bool:
        started = time.perf_counter()
        for journey in self._sampled:
            if journey.half is not None and journey.is_answered:
                self._finish_layer(journey)
                journey.sample_seconds += time.perf_counter() - started
                return True
        if not self._seeds or not self._may_sample():
            return False
        journey = Journey(number=self._next_number, seeds=self._seeds.popleft())
        self._next_number += 1
        self._sampled.append(journey)
        if self._sample_whole is None:
            self._begin_layer(journey, journey.seeds)
        else:
            journey.whole = self._sample_whole(journey.seeds)
        journey.sample_seconds += time.perf_counter() - started
        return True

    def _may_sample(self) -> bool:
        ahead = len(self._sampled) + len(self._window)
        if self._sample_whole is not None and self._wire.num_open:
            return False
        under_way = sum(not self._is_sampled(journey) for journey in self._sampled)
        return ahead <= self.policy.settings.lookahead_batches and under_way < MAX_SAMPLING

    def _is_sampled(self, journey: Journey) -> bool:
        return journey.whole is not None or len(journey.layers) == len(self._fanouts)

    def _begin_layer(self, journey: Journey, frontier: IntArray) -> None:
        half = self._sampling.begin(frontier, self._fanouts[len(journey.layers)])
        journey.half = half
        fanout = self._fanouts[len(journey.layers)]
        for question in half.questions:
            self._ask(journey, self._wire.sample(question.owner, question.nodes, fanout))
        if not half.questions:
            self._finish_layer(journey)

    def _finish_layer(self, journey: Journey) -> None:
        half, journey.half = journey.half, None
        assert half is not None
        answers = [answer for answer in journey.take_answers() if isinstance(answer, Edges)]
        journey.layers.append(self._sampling.finish(half, answers))
        if len(journey.layers) < len(self._fanouts):
            self._begin_layer(journey, journey.nodes)

    def _observe(self, journey: Journey) -> None:
        started = time.perf_counter()
        nodes, view = journey.nodes, self._view
        is_local = (nodes >= view.first) & (nodes < view.last)
        journey.local = np.flatnonzero(is_local)
        journey.remote = np.flatnonzero(~is_local)
        journey.remote_numbers = view.to_remote(nodes[journey.remote])
        self.policy.observe(journey.remote_numbers)
        self._window.append(journey)
        journey.sample_seconds += time.perf_counter() - started

    def _may_plan(self) -> bool:
        if not self._window or len(self._pulling) >= self._limits.pulling:
            return False
        wanted = min(self.policy.settings.lookahead_batches, self._ramp)
        more_to_come = bool(self._seeds or self._sampled)
        return len(self._window) > wanted or not more_to_come

    def _plan(self, journey: Journey) -> None:
        self._ramp += 1
        plan = self.policy.plan(journey.remote_numbers)
        journey.plan = plan
        missed = self._view.to_global(journey.remote_numbers[plan.misses])
        targets = self._view.to_global(plan.targets)
        journey.fetches = tuple(self._fetch(journey, missed, targets))
        journey.seed_tickets = tuple(self._fetch_seeds(journey))
        self._pulling.append(journey)

    def _fetch(self, journey: Journey, missed: IntArray, targets: IntArray) -> Iterator[Fetch]:
        keys = [tensor.key for tensor in self._inputs]
        nodes = np.concatenate([missed, targets])
        if not len(nodes) or not keys:
            return
        owners = self._view.owners(nodes)
        for owner in np.unique(owners):
            chosen = np.flatnonzero(owners == owner)
            ticket = self._ask(journey, self._wire.pull(int(owner), nodes[chosen], keys))
            yield Fetch(
                ticket=ticket,
                owner=int(owner),
                misses=chosen[chosen < len(missed)],
                targets=chosen[chosen >= len(missed)] - len(missed),
            )

    def _fetch_seeds(self, journey: Journey) -> Iterator[tuple[int, IntArray]]:
        seeds, view = journey.seeds, self._view
        keys = [tensor.key for tensor in self._outputs]
        away = np.flatnonzero((seeds < view.first) | (seeds >= view.last))
        if not len(away) or not keys:
            return
        owners = view.owners(seeds[away])
        for owner in np.unique(owners):
            chosen = away[owners == owner]
            yield self._ask(journey, self._wire.pull(int(owner), seeds[chosen], keys)), chosen

    def _ask(self, journey: Journey, ticket: int) -> int:
        journey.tickets.append(ticket)
        self._asked[ticket] = journey
        return ticket

    def _assemble(self, journey: Journey) -> Batch:
        started = time.perf_counter()
        plan = journey.plan
        assert plan is not None
        fetched = self._fetched(journey)
        inputs = self._assembly.run(
            journey.nodes, local=journey.local, remote=journey.remote, plan=plan, fetched=fetched
        )
        outputs = {tensor.name: self._outputs_of(tensor, journey) for tensor in self._outputs}
        blocks = journey.make_blocks()
        rows = self._accounts.count(journey)
        seconds = Seconds(
            sample=journey.sample_seconds,
            pull=journey.pull_seconds,
            assemble=time.perf_counter() - started,
        )
        return Batch(
            number=journey.number,
            input_nodes=torch.from_numpy(journey.nodes),
            seeds=torch.from_numpy(journey.seeds),
            blocks=blocks,
            inputs=inputs,
            outputs=outputs,
            rows=rows,
            seconds=seconds,
        )

    def _fetched(self, journey: Journey) -> list[tuple[Fetch, Rows]]:
        return [(fetch, _rows(journey.answers[fetch.ticket])) for fetch in journey.fetches]

    def _outputs_of(self, tensor: NodeTensor, journey: Journey) -> torch.Tensor:
        local = torch.from_numpy(journey.seeds - self._view.first)
        if not journey.seed_tickets:
            return tensor.local[local]
        out = tensor.local[local.clamp(0, len(tensor.local) - 1)]
        for ticket, places in journey.seed_tickets:
            out[torch.from_numpy(places)] = _rows(journey.answers[ticket])[tensor.key]
        return out


def _rows(answer: Any) -> Rows:
    assert not isinstance(answer, Edges)
    return answer  # type: ignore[no-any-return]
