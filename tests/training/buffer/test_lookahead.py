"""The lookahead policy keeps what it should: OPT inside its window, the most used beyond it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rudder.training.buffer import lookahead_kernels as kernels
from rudder.training.buffer.lookahead import HALF_LIFE_BATCHES, MAX_WEIGHT, LookaheadBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.training.buffer.player import Player, array, view_of

NUM_REMOTE = 16
NO_AGEING = 1e30
A, B, C, D, E = range(5)

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=10), min_size=1, max_size=25)
capacities = st.integers(0, NUM_REMOTE)


def buffer_of(
    capacity: int,
    *,
    threshold: float = 1.0,
    half_life: float = NO_AGEING,
    view: PartitionView | None = None,
) -> LookaheadBuffer:
    settings = BufferSettings(capacity_rows=capacity, eviction_threshold=threshold)
    return LookaheadBuffer(view or view_of(NUM_REMOTE), settings, half_life_batches=half_life)


def player_of(capacity: int, *, threshold: float = 1.0, half_life: float = NO_AGEING) -> Player:
    return Player(buffer_of(capacity, threshold=threshold, half_life=half_life))


def observe_all(player: Player, *batches: set[int]) -> None:
    for nodes in batches:
        player.observe(array(nodes))


def change(player: Player, **values: object) -> None:
    asked = Change.model_validate(values)
    assert player.policy.refusal(asked) is None
    player.policy.apply(asked)


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


# -- what is kept -----------------------------------------------------------------------


@given(trace=traces, capacity=capacities)
@hypothesis_settings(max_examples=150, deadline=None)
def test_a_window_over_the_whole_trace_fetches_as_many_rows_as_opt(
    trace: list[set[int]], capacity: int
) -> None:
    player = player_of(capacity)
    player.play([array(nodes) for nodes in trace], ahead=len(trace))
    assert player.rows_fetched == opt_rows(trace, capacity)


@given(trace=traces, capacity=capacities, data=st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_every_batch_leaves_the_rows_worth_most_whatever_the_window(
    trace: list[set[int]], capacity: int, data: st.DataObject
) -> None:
    player = player_of(capacity)
    for number, nodes in enumerate(trace):
        already = number + len(player.waiting)
        until = data.draw(st.integers(max(already, number + 1), len(trace)))
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


def test_old_uses_fade_so_that_a_new_phase_takes_over() -> None:
    player = player_of(2, half_life=4)
    player.play([array({A, B})] * 200, ahead=2)
    player.play([array({C, D})] * 12, ahead=2)
    assert player.buffered == {C, D}


def test_a_row_in_steady_use_stays_however_often_heat_is_scaled_down() -> None:
    player = player_of(1, half_life=2)
    for number in range(200):
        player.play([array({A, 1 + number % 15})], ahead=0)
        assert player.buffered == {A}


def test_heat_stays_within_the_ranks_that_tell_rows_apart() -> None:
    hottest = MAX_WEIGHT * (HALF_LIFE_BATCHES / math.log(2) + 1)
    assert hottest < kernels.HIGHEST_HEAT


def test_nodes_outside_the_halo_are_buffered_too() -> None:
    view = view_of(NUM_REMOTE)
    outside = set(range(NUM_REMOTE)) - set(view.to_remote(view.halo).tolist())
    player = player_of(NUM_REMOTE)
    player.play([array(outside)], ahead=0)
    assert player.buffered == outside


# -- eviction threshold -----------------------------------------------------------------


@given(
    trace=traces, capacity=capacities, ahead=st.integers(0, 5),
    threshold=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75]),
)  # fmt: skip
@hypothesis_settings(max_examples=150, deadline=None)
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
    observe_all(player, {A}, {A, B}, {B})
    player.plan()
    player.plan()
    assert player.buffered == {B}


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


def test_the_map_takes_at_most_16_bytes_a_remote_node() -> None:
    num_remote = 100_000
    policy = buffer_of(0, view=view_of(num_remote))
    assert policy.num_bytes <= 16 * num_remote


# -- fetch targets ----------------------------------------------------------------------


def test_targets_are_fetched_once_and_then_hit() -> None:
    player = player_of(4)
    ids = view_of(NUM_REMOTE).to_global(array({C, 12})).tolist()
    change(player, fetch_targets=FetchTargets(source="ids", row_budget=9, ids=tuple(ids)))
    observe_all(player, {A}, {C, 12})
    assert set(player.plan().targets.tolist()) == {C, 12}
    plan = player.plan()
    assert len(plan.hits) == 2
    assert not len(plan.targets)


def test_a_row_both_missed_and_chosen_is_fetched_once() -> None:
    player = player_of(0)
    change(player, capacity_rows=1, fetch_targets=targets_by_id(A, B))
    observe_all(player, {A, B, C})
    plan = player.plan()
    assert len(plan.misses) == 3
    assert not len(plan.targets)


def test_a_row_that_this_batch_displaces_is_not_fetched_back() -> None:
    player = player_of(1)
    observe_all(player, {A}, {B}, {B})
    player.plan()
    change(player, fetch_targets=targets_by_id(A))
    plan = player.plan()
    assert player.buffered == {B}
    assert not len(plan.targets)


def test_a_target_is_worth_its_first_known_use() -> None:
    player = player_of(1)
    observe_all(player, {A}, {B}, {D}, {A}, {D})
    player.plan()
    change(player, fetch_targets=targets_by_id(D))
    assert player.plan().targets.tolist() == [D]
    assert len(player.plan().hits) == 1


def test_targets_do_not_displace_protected_rows() -> None:
    player = player_of(2, threshold=0.0)
    player.play([array({A, B})], ahead=0)
    change(player, fetch_targets=targets_by_id(C, D))
    observe_all(player, {E}, {C, D})
    assert not len(player.plan().targets)
    assert player.buffered == {A, B}


def test_targets_that_found_no_place_gain_nothing() -> None:
    player = player_of(1)
    player.play([array({A})] * 3, ahead=0)
    for _ in range(9):
        change(player, fetch_targets=targets_by_id(B))
        player.play([array(set())], ahead=0)
    assert player.buffered == {A}


def test_two_requests_before_one_batch_are_both_carried_out() -> None:
    player = player_of(8)
    change(player, fetch_targets=targets_by_id(A, B))
    change(player, fetch_targets=targets_by_id(B, C))
    player.observe(array(set()))
    assert set(player.plan().targets.tolist()) == {A, B, C}


def test_replace_now_swaps_cold_rows_for_hotter_ones() -> None:
    player = player_of(2)
    player.play([array({A, B}), array({C, D}), array({C, D})], ahead=0)
    player.play([array({A, B})] * 4, ahead=0)
    assert player.buffered == {A, B}
    change(player, capacity_rows=3)
    change(player, replace_now=True)
    player.observe(array({E}))
    plan = player.plan()
    assert player.buffered == {A, B, C} or player.buffered == {A, B, D}
    assert len(plan.targets) == 1


def test_a_replacing_batch_counts_its_own_misses() -> None:
    player = player_of(1)
    player.play([array({A})] * 3, ahead=0)
    for _ in range(4):
        change(player, replace_now=True)
        player.play([array({B})], ahead=0)
    assert player.buffered == {B}


@pytest.mark.parametrize("source", ["observed", "degree", "owner", "ids"])
def test_targets_of_every_source_fill_an_idle_buffer(source: str) -> None:
    player = player_of(0)
    player.play([array(range(NUM_REMOTE))], ahead=0)
    ids = tuple(view_of(NUM_REMOTE).to_global(array(range(4))).tolist())
    asked = FetchTargets.model_validate(
        {
            "source": source,
            "row_budget": 3,
            "owner": 2 if source == "owner" else None,
            "ids": ids if source == "ids" else (),
        }
    )
    change(player, capacity_rows=5, fetch_targets=asked)
    player.observe(array(set()))
    assert len(player.plan().targets) == 3


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"fetch_targets": {"source": "owner", "row_budget": 1}}, "owner"),
        ({"fetch_targets": {"source": "owner", "row_budget": 1, "owner": 1}}, "owner"),
        ({"fetch_targets": {"source": "owner", "row_budget": 1, "owner": 3}}, "owner"),
        ({"fetch_targets": {"source": "ids", "row_budget": 1}}, "ids"),
        ({"fetch_targets": {"source": "ids", "row_budget": 1, "ids": (0, 8)}}, "[8]"),
        ({"fetch_targets": {"source": "ids", "row_budget": 1, "ids": (19,)}}, "[19]"),
        ({"capacity_rows": 0, "replace_now": True}, "capacity_rows"),
        (
            {"capacity_rows": 0, "fetch_targets": {"source": "degree", "row_budget": 1}},
            "capacity_rows",
        ),
    ],
)
def test_refusals_name_what_is_wrong(asked: dict[str, object], named: str) -> None:
    reason = buffer_of(4).refusal(Change.model_validate(asked))
    assert reason is not None
    assert named in reason


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


def targets_by_id(*nodes: int) -> FetchTargets:
    ids = view_of(NUM_REMOTE).to_global(array(nodes)).tolist()
    return FetchTargets(source="ids", row_budget=NUM_REMOTE, ids=tuple(ids))
