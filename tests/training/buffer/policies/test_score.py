"""The published policy against a plain transcription of docs/policies.md and the paper."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.policies.score import ScoreBuffer
from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.settings import BufferSettings, Change
from tests.training.buffer.player import Player, array, change, view_of

NUM_REMOTE = 24
VIEW = view_of(NUM_REMOTE)
HALO = set(VIEW.to_remote(VIEW.halo).tolist())
A, B, C, D, E = 0, 2, 4, 6, 8

traces = st.lists(st.sets(st.integers(0, NUM_REMOTE - 1), max_size=12), min_size=1, max_size=40)


class Published:
    """S_E as an array over slots' nodes that decays batch by batch, S_A as an array over nodes."""

    def __init__(
        self, capacity: int, *, interval: int, alpha: float, start: str, faithful: bool
    ) -> None:
        self.capacity, self.interval, self.faithful = capacity, interval, faithful
        self.gamma = 1 - alpha
        self.threshold = self.gamma ** max(interval, 1)
        if faithful:
            self.threshold = round(self.threshold, 3)
        self.start = start
        self.eviction: dict[int, float] = {}
        self.access = np.zeros(NUM_REMOTE)
        self.batches = 0
        self.fetched = 0

    def batch(self, nodes: set[int], *, asked: bool = False) -> None:
        self.batches += 1
        is_round = asked or (self.interval > 0 and self.batches % self.interval == 0)
        missed = nodes - set(self.eviction)
        for node in self.eviction:
            if node not in nodes:
                self.eviction[node] *= self.gamma
        if not (self.faithful and is_round and self._victims(but=set())):
            for node in missed & HALO if self.faithful else missed:
                self.access[node] += 1
        entered: set[int] = set()
        if self.batches == 1 and self.start == "degree":
            halo = VIEW.to_remote(VIEW.halo)
            first = halo[np.argsort(-VIEW.halo_degree, kind="stable")[: self.capacity]].tolist()
            entered |= set(first)
            self.eviction = {node: max(self.access[node], 1.0) for node in first}
            self.access[first] = 0
        if is_round:
            entered |= self._round(but=entered)
        self.fetched += len(missed) + len(entered if self.faithful else entered - missed)

    def _round(self, *, but: set[int]) -> set[int]:
        victims = self._victims(but=but)
        victims.sort(key=(lambda n: (n,)) if self.faithful else lambda n: (self._rounded(n), n))
        free = self.capacity - len(self.eviction)
        candidates = [n for n in range(NUM_REMOTE) if self.access[n] > 0]
        candidates.sort(key=lambda n: (-round(float(self.access[n]), 9), n))
        count = min(len(candidates), free + len(victims))
        if not self.faithful:
            swaps = zip(candidates[free:], victims, strict=False)
            better = (self.access[a] > self.eviction[b] * (1 + 1e-9) for a, b in swaps)
            count = min(count, free + sum(itertools.takewhile(bool, better)))
        leaving, entering = victims[: max(count - free, 0)], candidates[:count]
        scores = {node: float(self.access[node]) for node in entering}
        for node in leaving:
            self.access[node] = self.eviction.pop(node)
        self.eviction |= scores
        self.access[entering] = 0
        return set(entering)

    def _victims(self, *, but: set[int]) -> list[int]:
        limit = self.threshold * (1 - 1e-9)
        return [n for n in self.eviction if self.eviction[n] < limit and n not in but]

    def _rounded(self, node: int) -> float:
        return round(float(np.log(self.eviction[node]) / np.log(self.gamma)), 9) * -1


def buffer_of(capacity: int, **options: Any) -> ScoreBuffer:
    policy = make_policy(
        "score", VIEW, BufferSettings(capacity_rows=capacity), PolicyOptions(**options)
    )
    assert isinstance(policy, ScoreBuffer)
    return policy


def player_of(capacity: int, *, faithful: bool = False, **options: Any) -> Player:
    return Player(buffer_of(capacity, faithful=faithful, **options), may_fetch_twice=faithful)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("start", ["empty", "degree"])
@given(
    trace=traces,
    capacity=st.integers(0, 10),
    interval=st.integers(0, 5),
    alpha=st.sampled_from([0.05, 0.3, 0.7]),
    asked=st.sets(st.integers(1, 40), max_size=5),
)
@settings(deadline=None, max_examples=150)
def test_the_buffer_holds_and_fetches_what_the_transcription_does(
    faithful: bool,
    start: str,
    trace: list[set[int]],
    capacity: int,
    interval: int,
    alpha: float,
    asked: set[int],
) -> None:
    options: dict[str, Any] = {"alpha": alpha, "start": start, "faithful": faithful}
    player = player_of(capacity, replacement_interval=interval, **options)
    published = Published(capacity, interval=interval, **options)
    for number, nodes in enumerate(trace):
        is_asked = number in asked and capacity > 0
        if is_asked:
            change(player, replace_now=True)
        player.play([array(nodes)], ahead=0)
        published.batch(nodes, asked=is_asked)
        assert player.buffered == set(published.eviction)
        assert player.rows_fetched == published.fetched
    assert isinstance(player.policy, ScoreBuffer)
    assert player.policy.eviction_scores() == pytest.approx(published.eviction, rel=1e-5)


def test_the_threshold_is_gamma_to_the_interval_unless_it_is_given() -> None:
    assert buffer_of(1, replacement_interval=4, alpha=0.5).settings.eviction_threshold == 0.5**4
    assert buffer_of(1, replacement_interval=0, alpha=0.5).settings.eviction_threshold == 0.5
    given = BufferSettings(capacity_rows=1, eviction_threshold=0.25, replacement_interval=9)
    settings = ScoreBuffer(VIEW, given).settings
    assert settings == given


def test_a_low_threshold_is_rounded_to_nothing_only_where_bugs_are_asked_for() -> None:
    for faithful, evicts in ((False, True), (True, False)):
        player = player_of(1, replacement_interval=8, alpha=0.7, start="empty", faithful=faithful)
        player.play([array({A})] * 8, ahead=0)
        assert player.buffered == {A}
        player.play([array({B})] * 24, ahead=0)
        assert player.buffered == ({B} if evicts else {A})


def test_misses_are_not_admitted_between_rounds() -> None:
    player = player_of(4, replacement_interval=3, start="empty")
    player.play([array({A, B})] * 2, ahead=0)
    assert not player.buffered
    player.play([array({C})], ahead=0)
    assert player.buffered == {A, B, C}
    assert player.rows_fetched == 2 + 2 + 1 + 2


def test_a_row_both_missed_and_chosen_is_fetched_twice_only_where_bugs_are_asked_for() -> None:
    for faithful, fetched in ((False, 2), (True, 3)):
        player = player_of(4, replacement_interval=2, start="empty", faithful=faithful)
        player.play([array({A})] * 2, ahead=0)
        assert player.rows_fetched == fetched


@pytest.mark.parametrize("start", ["degree", "random"])
def test_the_start_rows_come_with_the_first_batch(start: str) -> None:
    player = player_of(3, replacement_interval=0, start=start)
    player.observe(array({1}))
    assert len(player.plan().targets) == 3
    assert player.buffered <= HALO


def test_random_starts_differ_by_seed_only() -> None:
    held = []
    for seed in (1, 1, 2):
        player = player_of(6, start="random", seed=seed)
        player.play([array(set())], ahead=0)
        held.append(player.buffered)
    assert held[0] == held[1] != held[2]


def test_an_interval_of_0_replaces_on_request_only() -> None:
    player = player_of(2, replacement_interval=0, start="empty")
    player.play([array({A})] * 9, ahead=0)
    assert not player.buffered
    change(player, replace_now=True)
    player.play([array(set())], ahead=0)
    assert player.buffered == {A}


def test_the_interval_can_be_changed() -> None:
    player = player_of(2, replacement_interval=0, start="empty")
    change(player, replacement_interval=2)
    player.play([array({A})] * 2, ahead=0)
    assert player.buffered == {A}
    assert player.policy.settings.replacement_interval == 2


def test_nodes_outside_the_halo_are_buffered_unless_bugs_are_asked_for() -> None:
    for faithful, held in ((False, {1}), (True, set())):
        player = player_of(2, replacement_interval=2, start="empty", faithful=faithful)
        player.play([array({1})] * 4, ahead=0)
        assert player.buffered == held


def test_a_smaller_capacity_drops_the_lowest_scores_and_remembers_them() -> None:
    player = player_of(2, replacement_interval=1, start="empty", alpha=0.5)
    player.play([array({A, B}), array({A}), array({A})], ahead=0)
    change(player, capacity_rows=1)
    player.play([array(set())], ahead=0)
    assert player.buffered <= {A, B}
    change(player, capacity_rows=2)
    player.play([array(set())], ahead=0)
    assert player.buffered == {A, B}


def test_everything_can_be_steered() -> None:
    policy = buffer_of(2)
    everything = Change.model_validate(
        {
            "capacity_rows": 3,
            "eviction_threshold": 0.5,
            "lookahead_batches": 3,
            "replacement_interval": 3,
            "fetch_targets": {"source": "degree", "row_budget": 1},
            "replace_now": True,
        }
    )
    assert policy.refusal(everything) is None
