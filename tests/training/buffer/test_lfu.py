"""lfu keeps the most used rows, counted from the start."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.registry import make_policy
from rudder.training.settings import BufferSettings, Change
from tests.training.buffer.player import Player, array, change, view_of

NUM_REMOTE = 24
VIEW = view_of(NUM_REMOTE)
A, B, C = range(3)

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=12), min_size=1, max_size=40)
capacities = st.integers(0, 12)


def player_of(capacity: int) -> Player:
    return Player(make_policy("lfu", VIEW, BufferSettings(capacity_rows=capacity)))


@given(trace=traces, capacity=capacities)
@settings(deadline=None, max_examples=200)
def test_lfu_keeps_the_most_used_of_its_rows_and_the_misses(
    trace: list[set[int]], capacity: int
) -> None:
    player, uses = player_of(capacity), Counter[int]()
    for nodes in trace:
        before = player.buffered
        player.play([array(nodes)], ahead=0)
        uses.update(nodes)
        best = sorted((uses[node] for node in before | nodes), reverse=True)[:capacity]
        assert sorted((uses[node] for node in player.buffered), reverse=True) == best


def test_lfu_follows_long_traces_whose_counts_outgrow_its_queues() -> None:
    random = np.random.default_rng(0)
    player, uses = player_of(7), Counter[int]()
    for _ in range(2000):
        nodes = set(np.flatnonzero(random.random(NUM_REMOTE) < np.arange(24) / 40).tolist())
        before = player.buffered
        player.play([array(nodes)], ahead=0)
        uses.update(nodes)
        best = sorted((uses[node] for node in before | nodes), reverse=True)[:7]
        assert sorted((uses[node] for node in player.buffered), reverse=True) == best


def test_lfu_lets_the_newcomer_stay_of_equally_used_rows() -> None:
    player = player_of(1)
    player.play([array({A}), array({B})], ahead=0)
    assert player.buffered == {B}


def test_lfu_does_not_displace_rows_used_more_often_than_the_threshold() -> None:
    player = player_of(1)
    change(player, eviction_threshold=0.5)
    player.play([array({A}), array({B})], ahead=0)
    assert player.buffered == {A}
    player.play([array({C}), array({C})], ahead=0)
    assert player.buffered == {C}


def test_lfu_with_a_smaller_capacity_keeps_the_most_used() -> None:
    player = player_of(3)
    player.play([array({A, B, C}), array({A, B}), array({B})], ahead=0)
    change(player, capacity_rows=1)
    player.play([array(set())], ahead=0)
    assert player.buffered == {B}


def test_lfu_refuses_rounds_because_it_decides_on_every_miss() -> None:
    policy = make_policy("lfu", VIEW, BufferSettings(capacity_rows=3))
    for asked in (Change(replace_now=True), Change(replacement_interval=3)):
        assert "rounds" in (policy.refusal(asked) or "")
