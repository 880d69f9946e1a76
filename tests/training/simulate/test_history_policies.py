"""lru, sieve and s3fifo against small and slow references, batch by batch."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.settings import BufferSettings, Change
from rudder.training.simulate.history_policies import HistoryBuffer

NUM_REMOTE = 24
traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=12), min_size=1, max_size=40)
capacities = st.integers(0, 12)


class Lru:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.order: list[int] = []

    @property
    def held(self) -> set[int]:
        return set(self.order)

    def hit(self, node: int) -> None:
        self.order.remove(node)
        self.order.append(node)

    def insert(self, node: int) -> None:
        self.order.append(node)

    def evict(self) -> None:
        self.order.pop(0)


class Sieve:
    """The paper's pseudo-code on a list, newest first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.queue: list[int] = []
        self.visited: set[int] = set()
        self.hand: int | None = None

    @property
    def held(self) -> set[int]:
        return set(self.queue)

    def hit(self, node: int) -> None:
        self.visited.add(node)

    def insert(self, node: int) -> None:
        self.queue.insert(0, node)

    def evict(self) -> None:
        place = len(self.queue) - 1 if self.hand is None else self.queue.index(self.hand)
        while self.queue[place] in self.visited:
            self.visited.remove(self.queue[place])
            place = place - 1 if place > 0 else len(self.queue) - 1
        self.hand = self.queue[place - 1] if place > 0 else None
        self.queue.pop(place)


class S3Fifo:
    """The paper's algorithm 1 on lists, newest last; ghosts that came back leave a gap."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.small: list[int] = []
        self.main: list[int] = []
        self.ghosts: list[int | None] = []
        self.freq: Counter[int] = Counter()

    @property
    def small_size(self) -> int:
        return max(self.capacity // 10, 1)

    @property
    def held(self) -> set[int]:
        return {*self.small, *self.main}

    def hit(self, node: int) -> None:
        self.freq[node] = min(self.freq[node] + 1, 3)

    def insert(self, node: int) -> None:
        newest = self.ghosts[::-1][: self.capacity - self.small_size]
        (self.main if node in newest else self.small).append(node)
        self.ghosts = [None if ghost == node else ghost for ghost in self.ghosts]
        self.freq[node] = 0

    def evict(self) -> None:
        before = len(self.held)
        while len(self.held) == before:
            if len(self.small) >= self.small_size or not self.main:
                self._evict_small()
            else:
                self._evict_main()

    def _evict_small(self) -> None:
        while self.small:
            node = self.small.pop(0)
            if self.freq[node] <= 1:
                self.ghosts.append(node)
                return
            self.freq[node] = 0
            self.main.append(node)

    def _evict_main(self) -> None:
        while True:
            node = self.main.pop(0)
            if self.freq[node] == 0:
                return
            self.freq[node] -= 1
            self.main.append(node)


Reference = Lru | Sieve | S3Fifo
REFERENCES: dict[str, type[Reference]] = {"lru": Lru, "sieve": Sieve, "s3fifo": S3Fifo}


def buffer_of(name: str, capacity: int, num_remote: int = NUM_REMOTE) -> HistoryBuffer:
    return HistoryBuffer(name, BufferSettings(capacity_rows=capacity), num_remote=num_remote)


def check_batch(buffer: HistoryBuffer, reference: Reference, nodes: set[int]) -> None:
    """Plan one batch; the hits are what the reference holds."""
    held, batch = reference.held, np.array(sorted(nodes), dtype=np.int64)
    plan = buffer.plan(batch)
    assert batch[plan.hits].tolist() == sorted(nodes & held)
    assert batch[plan.misses].tolist() == sorted(nodes - held)
    for node in sorted(nodes & held):
        reference.hit(node)
    for node in sorted(nodes - held) if reference.capacity else ():
        if len(reference.held) == reference.capacity:
            reference.evict()
        reference.insert(node)
    assert buffer.num_buffered == len(reference.held)


@pytest.mark.parametrize("name", REFERENCES)
@given(
    trace=traces,
    capacity=capacities,
    steps=st.dictionaries(st.integers(0, 39), capacities, max_size=4),
)
@settings(deadline=None, max_examples=200)
def test_each_batch_hits_what_the_reference_holds_whatever_the_capacity(
    name: str, trace: list[set[int]], capacity: int, steps: dict[int, int]
) -> None:
    buffer, reference = buffer_of(name, capacity), REFERENCES[name](capacity)
    for number, nodes in enumerate(trace):
        if number in steps:
            buffer.apply(Change(capacity_rows=steps[number]))
            while len(reference.held) > steps[number]:
                reference.evict()
            reference.capacity = steps[number]
        check_batch(buffer, reference, nodes)


@pytest.mark.parametrize("name", REFERENCES)
def test_long_skewed_traces_are_followed_exactly(name: str) -> None:
    random = np.random.default_rng(0)
    worth = random.pareto(1.0, NUM_REMOTE) + 0.05
    buffer, reference = buffer_of(name, 10), REFERENCES[name](10)
    for _ in range(1500):
        nodes = random.choice(NUM_REMOTE, 6, replace=False, p=worth / worth.sum())
        check_batch(buffer, reference, set(nodes.tolist()))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_million_accesses_take_seconds(name: str) -> None:
    random = np.random.default_rng(0)
    buffer = buffer_of(name, 20_000, num_remote=100_000)
    batches = [np.unique((1e5 * random.random(12_500) ** 3).astype(int)) for _ in range(100)]
    started = time.thread_time()
    for nodes in batches:
        buffer.plan(nodes)
    assert time.thread_time() - started < 10e-6 * sum(map(len, batches))


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(
    "change",
    [Change(replace_now=True), Change(replacement_interval=3), Change(eviction_threshold=0.5)],
)
def test_only_capacity_and_lookahead_can_be_changed(name: str, change: Change) -> None:
    buffer = buffer_of(name, 3)
    assert "only capacity and lookahead" in (buffer.refusal(change) or "")
    assert buffer.refusal(Change(capacity_rows=2, lookahead_batches=1)) is None
