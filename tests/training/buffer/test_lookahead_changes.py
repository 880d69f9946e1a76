"""The eviction threshold and the capacity, changed while the lookahead policy runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.directory import WHOLE_UP_TO
from rudder.training.settings import Change
from tests.training.buffer.player import (
    NUM_REMOTE,
    array,
    buffer_of,
    change,
    observe_all,
    player_of,
    view_of,
)

A, B, C, D, E = range(5)

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=10), min_size=1, max_size=25)


# -- eviction threshold -----------------------------------------------------------------


@given(
    trace=traces, capacity=st.integers(0, NUM_REMOTE), ahead=st.integers(0, 5),
    threshold=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_rows_used_as_often_as_the_threshold_are_never_displaced(
    trace: list[set[int]], capacity: int, ahead: int, threshold: float
) -> None:
    player = player_of(capacity, threshold=threshold)
    for number in range(len(trace)):
        seen = trace[: number + ahead + 1]
        observe_all(player, *seen[number + len(player.waiting) :])
        kept = {
            node
            for node in player.buffered
            if sum(node in nodes for nodes in seen) >= threshold * len(seen)
        }
        player.plan()
        assert kept <= player.buffered


def test_threshold_one_protects_nothing() -> None:
    player = player_of(1, threshold=1.0)
    player.play([array({A})] * 60, ahead=0)
    player.play([array({B})] * 2, ahead=1)
    assert player.buffered == {B}


def test_protection_lasts_however_often_heat_is_scaled_down() -> None:
    player = player_of(1, threshold=0.5, half_life=8)
    for _ in range(40):
        player.play([*[array({A})] * 6, *[array({B})] * 2], ahead=1)
        assert player.buffered == {A}


def test_a_row_well_below_the_threshold_is_displaced() -> None:
    player = player_of(1, threshold=0.5)
    observe_all(player, {A}, set(), set(), {B}, {B}, {B})
    while player.waiting:
        player.plan()
    assert player.buffered == {B}


def test_a_raised_threshold_frees_rows_that_were_found_protected() -> None:
    player = player_of(1, threshold=0.1)
    observe_all(player, {A}, {B}, {B, C}, {C}, {A})
    player.plan()
    player.plan()
    assert player.buffered == {A}
    change(player, eviction_threshold=1.0)
    player.plan()
    assert player.buffered == {C}


def test_a_protected_row_can_be_displaced_once_it_is_used_too_seldom() -> None:
    player = player_of(1, threshold=0.5)
    observe_all(player, {A}, {B}, {B}, {A})
    for _ in range(4):
        player.plan()
    assert player.buffered == {A}
    player.play([array({B})] * 4, ahead=0)
    assert player.buffered == {B}


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_smaller_capacity_drops_the_rows_worth_least_however_protected(threshold: float) -> None:
    player = player_of(5, threshold=threshold)
    observe_all(player, {A, B, C, D, E}, set(), {B}, {C}, {A}, {E})
    player.plan()
    player.plan()
    change(player, capacity_rows=3)
    assert player.policy.num_buffered == 3
    assert len(player.plan().hits) == 1
    assert player.buffered == {A, B, C}


# -- capacity ---------------------------------------------------------------------------


def test_more_capacity_than_remote_nodes_takes_no_more_memory() -> None:
    enough, too_much = buffer_of(NUM_REMOTE), buffer_of(2**31 - 1)
    assert too_much.num_bytes == enough.num_bytes
    too_much.apply(Change(capacity_rows=2**31 - 2))
    assert too_much.settings.capacity_rows == 2**31 - 2
    assert too_much.num_bytes == enough.num_bytes


def test_resizes_before_one_batch_move_rows_once() -> None:
    player = player_of(4)
    player.play([array({A, B, C, D})], ahead=0)
    for capacity in (2, 9, 3, 12):
        change(player, capacity_rows=capacity)
    player.observe(array({A, B, C, D}))
    plan = player.plan()
    assert plan.resize is not None
    assert plan.resize.capacity == 12
    assert len(plan.hits) == 2


def test_an_equal_capacity_moves_nothing() -> None:
    player = player_of(4)
    change(player, capacity_rows=4)
    player.observe(array({A}))
    assert player.plan().resize is None


def test_the_map_of_a_small_graph_takes_at_most_16_bytes_a_remote_node() -> None:
    num_remote = 100_000
    policy = buffer_of(0, view=view_of(num_remote))
    assert policy.num_bytes <= 16 * num_remote + 2**14


def test_the_map_of_a_large_graph_goes_with_what_was_seen() -> None:
    policy = buffer_of(0, view=view_of(WHOLE_UP_TO + 2))
    assert policy.num_bytes <= 2**15
    policy.observe(np.arange(5, 400_005, 100))
    assert policy.num_bytes <= 100 * 4000
