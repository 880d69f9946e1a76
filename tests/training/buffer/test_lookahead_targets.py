"""Rows that the lookahead policy fetches on request."""

from __future__ import annotations

import pytest

from rudder.training.settings import Change, FetchTargets
from tests.training.buffer.player import (
    NUM_REMOTE,
    array,
    buffer_of,
    change,
    observe_all,
    player_of,
    targets_by_id,
    view_of,
)

A, B, C, D, E = range(5)


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


def test_a_request_is_carried_out_once() -> None:
    player = player_of(0)
    player.play([array({A, B, C})], ahead=0)
    change(player, capacity_rows=8, fetch_targets={"source": "observed", "row_budget": 1})
    observe_all(player, set(), set())
    assert len(player.plan().targets) == 1
    assert not len(player.plan().targets)


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
