"""Questions and answers, filed by the batch that asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from rudder.training.errors import RunError
from rudder.training.loading.batch import Journey
from rudder.training.loading.desk import Desk
from rudder.training.loading.pacing import RATE_ANSWERS, Pacing
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import Edges
from rudder.training.wire.wire import Answer

_ROW_BYTES = 512


@dataclass
class InstantWire:
    """Answers the oldest question whenever it is asked to; nothing while `is_silent`."""

    is_silent: bool = False
    waiting: deque[tuple[int, Answer]] = field(default_factory=deque)
    num_asked: int = 0

    @property
    def num_open(self) -> int:
        return len(self.waiting)

    def sample(self, owner: int, nodes: IntArray, fanout: int) -> int:
        none = np.empty(0, dtype=np.int64)
        return self._ask(Edges(counts=np.zeros_like(nodes), sources=none, edge_ids=None))

    def pull(self, owner: int, nodes: IntArray, names: Sequence[str]) -> int:
        rows = torch.zeros(len(nodes), _ROW_BYTES // 4)
        return self._ask(dict.fromkeys(names, rows))

    def receive(self, timeout_ms: int) -> tuple[int, Answer] | None:
        return None if self.is_silent or not self.waiting else self.waiting.popleft()

    def _ask(self, answer: Answer) -> int:
        self.num_asked += 1
        self.waiting.append((self.num_asked, answer))
        return self.num_asked


@dataclass
class RecordedLink:
    """Keeps the windows it got."""

    min_round_trip_s: float = 0.0
    windows: list[int] = field(default_factory=list)

    def limit_window(self, num_bytes: int) -> None:
        self.windows.append(num_bytes)


def _journey(number: int = 0) -> Journey:
    return Journey(number=number, seeds=np.arange(4))


def _nodes(count: int) -> IntArray:
    return np.arange(count, dtype=np.int64)


def test_each_batch_gets_its_own_answers() -> None:
    desk = Desk(InstantWire(), pacing=Pacing({}))
    first, second = _journey(0), _journey(1)
    desk.sample(first, 1, _nodes(3), fanout=5)
    ticket = desk.pull(second, 1, _nodes(7), ["feat"])
    assert desk.receive(0)
    assert first.is_answered
    assert not second.is_answered
    assert desk.receive(0)
    assert second.rows(ticket)["feat"].shape == (7, _ROW_BYTES // 4)
    assert desk.num_open == 0


def test_a_pull_is_counted_with_its_owner_and_a_sample_is_not() -> None:
    desk = Desk(InstantWire(), pacing=Pacing({}))
    journey = _journey()
    desk.sample(journey, 1, _nodes(3), fanout=5)
    desk.pull(journey, 2, _nodes(7), ["feat", "label"])
    while desk.receive(0):
        pass
    assert [(pull.owner, pull.rows) for pull in journey.pulls] == [(2, 7)]


def test_only_pulls_set_the_window_of_their_owner() -> None:
    link, other = RecordedLink(), RecordedLink()
    desk = Desk(InstantWire(), pacing=Pacing({1: link, 2: other}))
    for number in range(RATE_ANSWERS):
        desk.sample(_journey(number), 2, _nodes(3), fanout=5)
        desk.pull(_journey(number), 1, _nodes(100), ["feat"])
    while desk.receive(0):
        pass
    assert len(link.windows) == 1
    assert other.windows == []


def test_silence_of_the_servers_is_told_with_their_partitions() -> None:
    desk = Desk(InstantWire(is_silent=True), pacing=Pacing({}))
    desk.pull(_journey(), 3, _nodes(1), ["feat"])
    assert not desk.receive(0)
    with pytest.raises(RunError, match=r"partitions \[3\]"):
        desk.check(timeout_s=0.0)


def test_nobody_complains_where_nothing_was_asked() -> None:
    Desk(InstantWire(is_silent=True), pacing=Pacing({})).check(timeout_s=0.0)
