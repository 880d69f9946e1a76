"""lru, lfu, sieve and s3fifo against small and slow references, batch by batch."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.registry import make_policy
from rudder.training.settings import BufferSettings, Change
from tests.training.buffer.player import Player, array, change, view_of

NUM_REMOTE = 24
VIEW = view_of(NUM_REMOTE)
A, B, C, D, E, F = range(6)

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=12), min_size=1, max_size=40)
capacities = st.integers(0, 12)


class Reference(Protocol):
    """A cache of nodes, in the words of its paper."""

    @property
    def held(self) -> set[int]:
        """All its nodes."""

    def hit(self, node: int) -> None:
        """A buffered node is used."""

    def insert(self, node: int) -> None:
        """A node comes in."""

    def evict(self) -> None:
        """A node goes."""


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
        if len(self.order) == self.capacity:
            self.evict()
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
        if len(self.queue) == self.capacity:
            self.evict()
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
        if len(self.held) == self.capacity:
            self.evict()
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


REFERENCES: dict[str, type[Lru] | type[Sieve] | type[S3Fifo]] = {
    "lru": Lru,
    "sieve": Sieve,
    "s3fifo": S3Fifo,
}


def play(reference: Reference, nodes: set[int], capacity: int) -> None:
    held = reference.held
    for node in sorted(nodes & held):
        reference.hit(node)
    for node in sorted(nodes - held) if capacity else ():
        reference.insert(node)


def player_of(name: str, capacity: int) -> Player:
    return Player(make_policy(name, VIEW, BufferSettings(capacity_rows=capacity)))


@pytest.mark.parametrize("name", REFERENCES)
@given(trace=traces, capacity=capacities)
@settings(deadline=None, max_examples=200)
def test_the_buffer_holds_what_the_reference_holds(
    name: str, trace: list[set[int]], capacity: int
) -> None:
    player, reference = player_of(name, capacity), REFERENCES[name](capacity)
    for nodes in trace:
        player.play([array(nodes)], ahead=0)
        play(reference, nodes, capacity)
        assert player.buffered == reference.held


@pytest.mark.parametrize("name", REFERENCES)
def test_long_skewed_traces_are_followed_exactly(name: str) -> None:
    random = np.random.default_rng(0)
    worth = random.pareto(1.0, NUM_REMOTE) + 0.05
    player, reference = player_of(name, 10), REFERENCES[name](10)
    for _ in range(1500):
        nodes = set(random.choice(NUM_REMOTE, 6, replace=False, p=worth / worth.sum()).tolist())
        player.play([array(nodes)], ahead=0)
        play(reference, nodes, 10)
        assert player.buffered == reference.held


@pytest.mark.parametrize("name", REFERENCES)
@given(trace=traces, steps=st.lists(st.tuples(st.integers(0, 39), capacities), max_size=4))
@settings(deadline=None, max_examples=100)
def test_a_resize_keeps_the_order_of_the_rows_that_stay(
    name: str, trace: list[set[int]], steps: list[tuple[int, int]]
) -> None:
    player, reference = player_of(name, 6), REFERENCES[name](6)
    capacities_at = dict(steps)
    for number, nodes in enumerate(trace):
        if number in capacities_at:
            change(player, capacity_rows=capacities_at[number])
            while len(reference.held) > capacities_at[number]:
                reference.evict()
            reference.capacity = capacities_at[number]
        player.play([array(nodes)], ahead=0)
        play(reference, nodes, reference.capacity)
        assert player.buffered == reference.held


@given(trace=traces, capacity=capacities)
@settings(deadline=None, max_examples=200)
def test_lfu_keeps_the_most_used_of_its_rows_and_the_misses(
    trace: list[set[int]], capacity: int
) -> None:
    player, uses = player_of("lfu", capacity), Counter[int]()
    for nodes in trace:
        before = player.buffered
        player.play([array(nodes)], ahead=0)
        uses.update(nodes)
        best = sorted((uses[node] for node in before | nodes), reverse=True)[:capacity]
        assert sorted((uses[node] for node in player.buffered), reverse=True) == best


def test_lfu_follows_long_traces_whose_counts_outgrow_its_queues() -> None:
    random = np.random.default_rng(0)
    player, uses = player_of("lfu", 7), Counter[int]()
    for _ in range(2000):
        nodes = set(np.flatnonzero(random.random(NUM_REMOTE) < np.arange(24) / 40).tolist())
        before = player.buffered
        player.play([array(nodes)], ahead=0)
        uses.update(nodes)
        best = sorted((uses[node] for node in before | nodes), reverse=True)[:7]
        assert sorted((uses[node] for node in player.buffered), reverse=True) == best


def test_lfu_lets_the_newcomer_stay_of_equally_used_rows() -> None:
    player = player_of("lfu", 1)
    player.play([array({A}), array({B})], ahead=0)
    assert player.buffered == {B}


def test_lfu_does_not_displace_rows_used_more_often_than_the_threshold() -> None:
    player = player_of("lfu", 1)
    change(player, eviction_threshold=0.5)
    player.play([array({A}), array({B})], ahead=0)
    assert player.buffered == {A}
    player.play([array({C}), array({C})], ahead=0)
    assert player.buffered == {C}


def test_lfu_with_a_smaller_capacity_keeps_the_most_used() -> None:
    player = player_of("lfu", 3)
    player.play([array({A, B, C}), array({A, B}), array({B})], ahead=0)
    change(player, capacity_rows=1)
    player.play([array(set())], ahead=0)
    assert player.buffered == {B}


def test_s3fifo_keeps_rows_asked_for_while_misses_pass_through() -> None:
    player = player_of("s3fifo", 10)
    change(player, fetch_targets=targets_of(A, B))
    player.play([array(set()), array(range(10, 18))], ahead=0)
    player.play([array({node}) for node in range(2, 10)], ahead=0)
    assert player.buffered >= {A, B}


def targets_of(*nodes: int) -> object:
    ids = tuple(VIEW.to_global(array(nodes)).tolist())
    return {"source": "ids", "row_budget": len(nodes), "ids": ids}


@pytest.mark.parametrize("name", ["lru", "lfu", "sieve", "s3fifo"])
def test_rounds_mean_nothing_where_every_miss_is_weighed(name: str) -> None:
    policy = make_policy(name, VIEW, BufferSettings(capacity_rows=3))
    for asked in (Change(replace_now=True), Change(replacement_interval=3)):
        reason = policy.refusal(asked)
        assert reason is not None
        assert "rounds" in reason
