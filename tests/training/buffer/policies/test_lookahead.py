"""The lookahead policy keeps what it should: OPT inside its window, the most used beyond it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.policies.lookahead import MAX_WEIGHT
from rudder.training.buffer.policies.lookahead_kernels import HIGHEST_HEAT
from rudder.training.buffer.policy import HALF_LIFE_BATCHES, IntArray
from rudder.training.partition_view import PartitionView
from tests.training.buffer.player import (
    NUM_REMOTE,
    Player,
    array,
    buffer_of,
    change,
    observe_all,
    player_of,
    view_of,
)

A, B, C, D, E = range(5)

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=10), min_size=1, max_size=25)
capacities = st.integers(0, NUM_REMOTE)


def opt_rows(trace: Sequence[set[int]], capacity: int) -> int:
    """Rows fetched by Belady's choice with bypass: keep the rows with the nearest next use."""
    held: set[int] = set()
    fetched = 0
    for number, nodes in enumerate(trace):
        fetched += len(nodes - held)
        later = trace[number + 1 :]

        def next_use(node: int, later: Sequence[set[int]] = later) -> int:
            return next((i for i, batch in enumerate(later) if node in batch), len(later))

        held = set(sorted(held | nodes, key=next_use)[:capacity])
    return fetched


def worth(node: int, *, ahead: Sequence[set[int]], seen: Sequence[set[int]]) -> tuple[int, int]:
    """The policy's order in plain words: a known next use, the nearest best; else uses so far."""
    for distance, batch in enumerate(ahead):
        if node in batch:
            return 1, -distance
    return 0, int(8 * math.log2(sum(node in batch for batch in seen)))


@given(trace=traces, capacity=capacities)
@settings(max_examples=150, deadline=None)
def test_a_window_over_the_whole_trace_fetches_as_many_rows_as_opt(
    trace: list[set[int]], capacity: int
) -> None:
    player = player_of(capacity)
    player.play([array(nodes) for nodes in trace], ahead=len(trace))
    assert player.rows_fetched == opt_rows(trace, capacity)


@given(trace=traces, capacity=capacities, data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_batch_leaves_the_rows_worth_most_whatever_the_window(
    trace: list[set[int]], capacity: int, data: st.DataObject
) -> None:
    player = player_of(capacity)
    for number, nodes in enumerate(trace):
        already = number + len(player.waiting)
        more = data.draw(st.sampled_from([0, 1, 2, 4, 25]))
        until = min(max(already, number + 1) + more, len(trace))
        observe_all(player, *trace[already:until])
        candidates = player.buffered | nodes
        player.plan()
        kept = player.buffered
        assert kept <= candidates
        assert len(kept) == min(capacity, len(candidates))
        worths = {
            node: worth(node, ahead=trace[number + 1 : until], seen=trace[:until])
            for node in candidates
        }
        given_up = [worths[node] for node in candidates - kept]
        assert not given_up or not kept or max(given_up) <= min(worths[node] for node in kept)


def test_without_a_window_the_most_used_rows_stay() -> None:
    random = np.random.default_rng(3)
    chance = 0.9 ** np.arange(NUM_REMOTE)
    trace = [np.flatnonzero(random.random(NUM_REMOTE) < chance) for _ in range(300)]
    player = player_of(5)
    player.play(trace, ahead=0)
    assert player.buffered == {0, 1, 2, 3, 4}


def test_a_miss_is_admitted_for_free_and_fetched_once() -> None:
    player = player_of(2)
    player.play([array({A, B})] * 5, ahead=0)
    assert player.rows_fetched == 2


def test_equals_do_not_displace_one_another() -> None:
    player = player_of(1)
    player.play([array({A}), array({B})], ahead=0)
    assert player.buffered == {A}


def test_an_evicted_row_keeps_its_history() -> None:
    player = player_of(1)
    player.play([array({A})] * 5, ahead=0)
    change(player, capacity_rows=0)
    change(player, capacity_rows=1)
    player.play([array({A, B})], ahead=0)
    assert player.buffered == {A}


@pytest.mark.parametrize("batches", range(20, 60, 3))
def test_old_uses_fade_so_that_a_new_phase_takes_over(batches: int) -> None:
    player = player_of(2, half_life=4)
    player.play([array({A, B})] * batches, ahead=0)
    player.play([array({C, D})] * 8, ahead=0)
    assert player.buffered == {C, D}


def test_a_row_in_steady_use_stays_however_often_heat_is_scaled_down() -> None:
    player = player_of(1, half_life=2)
    for number in range(200):
        player.play([array({A, 1 + number % 15})], ahead=0)
        assert player.buffered == {A}


def test_heat_stays_within_the_ranks_that_tell_rows_apart() -> None:
    hottest = MAX_WEIGHT * (HALF_LIFE_BATCHES / math.log(2) + 1)
    assert hottest < HIGHEST_HEAT


def test_nodes_outside_the_halo_are_buffered_too() -> None:
    view = view_of(NUM_REMOTE)
    outside = set(range(NUM_REMOTE)) - set(view.to_remote(view.halo).tolist())
    player = player_of(NUM_REMOTE)
    player.play([array(outside)], ahead=0)
    assert player.buffered == outside


# -- limits -----------------------------------------------------------------------------


def test_partitions_of_more_than_2_31_nodes_are_numbered_right() -> None:
    inner = 2**40
    starts = np.array([0, 5, 5 + inner, 10 + inner])
    view = PartitionView(
        part=1, starts=starts, indptr=starts[:1], indices=starts[:0], halo=starts[:0]
    )
    player = Player(buffer_of(10, view=view))
    asked = {"source": "ids", "row_budget": 9, "ids": (3, 9 + inner)}
    change(player, fetch_targets=asked)
    observe_all(player, {0, 5}, {3, 9})
    plan = player.plan()
    assert view.to_global(plan.targets).tolist() == [3, 9 + inner]
    assert len(player.plan().hits) == 2


def test_a_plan_for_another_batch_than_observed_is_refused() -> None:
    buffer = buffer_of(4)
    with pytest.raises(ValueError, match="none"):
        buffer.plan(array({A}))
    buffer.observe(array({A}))
    with pytest.raises(ValueError, match="2 nodes"):
        buffer.plan(array({A, B}))


def seconds_a_batch(*, num_remote: int, capacity: int) -> float:
    random = np.random.default_rng(1)
    view = PartitionView(
        part=0, starts=np.array([0, 0, num_remote]), indptr=np.zeros(1, dtype=np.int64),
        indices=np.zeros(0, dtype=np.int64), halo=np.zeros(0, dtype=np.int64),
    )  # fmt: skip
    buffer = buffer_of(capacity, view=view)
    full = random.permutation(num_remote)[:capacity]
    trace: list[IntArray] = [np.unique(random.integers(0, num_remote, 2000)) for _ in range(40)]
    for nodes in (full, *trace[:10]):
        buffer.observe(nodes)
    buffer.plan(full)
    assert buffer.num_buffered == capacity
    best = math.inf
    for now, later in zip(trace, trace[10:], strict=False):
        started = time.perf_counter()
        buffer.observe(later)
        buffer.plan(now)
        best = min(best, time.perf_counter() - started)
    return best


def test_a_batch_costs_the_same_for_a_hundredfold_graph_and_buffer() -> None:
    small = seconds_a_batch(num_remote=20_000, capacity=10_000)
    large = seconds_a_batch(num_remote=2_000_000, capacity=1_000_000)
    assert large < 10 * small
