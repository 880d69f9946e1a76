"""The set of rows that is chosen once."""

from __future__ import annotations

from typing import Any

import pytest

from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import NUM_REMOTE, Player, array, change, targets_by_id, view_of

VIEW = view_of(NUM_REMOTE)
BEST_BY_DEGREE = {4, 14, 8}  # with 4, 4 and 3 edges
A, B, C, D = range(4)


def player_of(capacity: int, **options: Any) -> Player:
    settings = BufferSettings(capacity_rows=capacity)
    known = PolicyOptions(fanouts=(2, 2), **options)
    return Player(make_policy("static", VIEW, settings, known))


@pytest.mark.parametrize("source", ["degree", "vip"])
def test_the_nodes_worth_most_are_admitted_when_they_pass_and_nothing_is_fetched(
    source: str,
) -> None:
    player = player_of(3, source=source)
    player.play([array({4, 1}), array({8, 0, 2}), array(range(NUM_REMOTE))], ahead=0)
    assert player.buffered == BEST_BY_DEGREE
    assert player.rows_fetched == 2 + 3 + NUM_REMOTE - 2


def test_presample_keeps_the_most_used_of_one_epoch() -> None:
    player = player_of(2, source="presample", epoch_batches=3)
    player.play([array({A, B, C}), array({C, D}), array({C, D})], ahead=0)
    player.play([array({A, B}), array({C, D})], ahead=0)
    assert player.buffered == {C, D}


def test_presample_takes_in_what_passes_while_it_counts() -> None:
    player = player_of(2, source="presample", epoch_batches=3)
    player.play([array({A, B, C})], ahead=0)
    assert player.buffered == {A, B}


def test_rows_outside_the_set_serve_until_their_slots_are_needed() -> None:
    player = player_of(1, source="presample", epoch_batches=3)
    player.play([array({A}), array({B}), array({B})], ahead=0)
    assert player.buffered == {A}
    player.observe(array({A}))
    assert len(player.plan().hits) == 1
    player.play([array({B})], ahead=0)
    assert player.buffered == {B}


def test_a_round_chooses_again_by_the_counts_so_far() -> None:
    player = player_of(1, source="presample", epoch_batches=1)
    player.play([array({A})] + [array({B})] * 3, ahead=0)
    assert player.buffered == {A}
    change(player, replace_now=True)
    player.play([array({B})], ahead=0)
    assert player.buffered == {B}


def test_rows_asked_for_take_the_places_of_those_worth_least() -> None:
    player = player_of(3, source="degree")
    player.play([array(range(NUM_REMOTE))], ahead=0)
    change(player, fetch_targets=targets_by_id(A, B))
    player.play([array(set())], ahead=0)
    assert player.buffered >= {A, B}
    assert len(player.buffered & {4, 14}) == 1


def test_another_capacity_chooses_anew_and_keeps_the_best() -> None:
    player = player_of(5, source="degree")
    player.play([array(range(NUM_REMOTE))], ahead=0)
    change(player, capacity_rows=3)
    player.play([array(set())], ahead=0)
    assert player.buffered >= {4, 14}
    change(player, capacity_rows=NUM_REMOTE)
    player.play([array(range(NUM_REMOTE))], ahead=0)
    assert player.buffered == {node for node in range(0, NUM_REMOTE, 2) if node % 5}


@pytest.mark.parametrize("source", ["degree", "vip"])
def test_a_round_is_refused_where_the_choice_would_be_the_same(source: str) -> None:
    from rudder.training.settings import Change

    reason = player_of(2, source=source).policy.refusal(Change(replace_now=True))
    assert reason is not None
    assert "replace_now" in reason
