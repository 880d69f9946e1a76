"""Rows that are fetched while the loader is idle."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.training.buffer.player import (
    NUM_REMOTE,
    Player,
    array,
    observe_all,
    player_of,
    view_of,
)

VIEW = view_of(NUM_REMOTE)


def by_id(*nodes: int, while_idle: bool = True) -> Change:
    ids = tuple(VIEW.to_global(np.array(nodes)).tolist())
    return Change(
        fetch_targets=FetchTargets(
            source="ids", row_budget=NUM_REMOTE, ids=ids, while_idle=while_idle
        )
    )


@pytest.mark.parametrize("name", ["lookahead", "lfu", "static"])
def test_rows_come_a_few_at_a_time_and_then_hit(name: str) -> None:
    player = Player(make_policy(name, VIEW, BufferSettings(capacity_rows=8)))
    player.policy.apply(by_id(5, 3, 1))
    assert player.policy.wants_rows
    assert player.fetch(2).targets.tolist() == [5, 3]
    assert player.fetch(2).targets.tolist() == [1]
    assert not player.policy.wants_rows
    player.observe(array({1, 3, 7}))
    plan = player.plan()
    assert len(plan.hits) == 2
    assert not len(plan.targets)


def test_a_row_that_a_batch_brought_meanwhile_is_not_fetched() -> None:
    player = player_of(8)
    player.policy.apply(by_id(5, 3, 1))
    player.fetch(1)
    player.play([array({3})], ahead=0)
    assert player.fetch(8).targets.tolist() == [1]


def test_rows_never_displace_what_is_worth_more() -> None:
    player = player_of(2)
    player.play([array({0, 1})] * 3, ahead=0)
    player.policy.apply(by_id(5))
    assert not len(player.fetch(8).targets)
    assert player.buffered == {0, 1}
    assert not player.policy.wants_rows


def test_a_known_use_counts_between_two_batches() -> None:
    player = player_of(1)
    observe_all(player, {0}, {4}, {5})
    player.plan()
    player.policy.apply(by_id(5, 4))
    assert player.fetch(2).targets.tolist() == [4]
    assert len(player.plan().hits) == 1


def test_a_later_request_replaces_an_open_one() -> None:
    player = player_of(8)
    player.policy.apply(by_id(5, 3, 1))
    player.fetch(1)
    player.policy.apply(by_id(9))
    assert player.fetch(8).targets.tolist() == [9]


def test_a_change_of_capacity_comes_with_the_fetch() -> None:
    player = player_of(2)
    player.play([array({0, 1})], ahead=0)
    player.policy.apply(Change(capacity_rows=4, fetch_targets=by_id(5, 3).fetch_targets))
    assert player.fetch(8).resize is not None
    assert player.buffered == {0, 1, 3, 5}


def test_vip_leaves_out_rows_that_an_epoch_hardly_needs() -> None:
    options = PolicyOptions(fanouts=(1,), batch_size=1, seeds=VIEW.to_global(np.arange(0)))
    sure = PolicyOptions(fanouts=(-1,), batch_size=3, seeds=np.arange(VIEW.first, VIEW.last))
    fetched = []
    for each in (options, sure):
        player = Player(make_policy("lookahead", VIEW, BufferSettings(capacity_rows=16), each))
        targets = FetchTargets(source="vip", row_budget=16, while_idle=True)
        player.policy.apply(Change(fetch_targets=targets))
        fetched.append(len(player.fetch(99).targets))
    assert fetched == [0, np.count_nonzero(VIEW.halo_degree)]


def test_the_score_policy_fetches_them_with_the_next_batch() -> None:
    options = PolicyOptions(start="empty")
    player = Player(make_policy("score", VIEW, BufferSettings(capacity_rows=8), options))
    player.policy.apply(by_id(5, 3))
    assert not player.policy.wants_rows
    player.observe(array(set()))
    assert {3, 5} <= set(player.plan().targets.tolist())
